//! schemas/openapi.json: the routes as OpenAPI 3.1 has them, made from their rows.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::commands::route::refusal::{self, ERROR};
use crate::commands::route::{Access, Body, Gives, Param, Place, Route, Shape};
use crate::version::VERSION;

/// The whole description of these routes.
pub(crate) fn document(routes: &[&'static Route]) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "flux",
            "version": VERSION,
            "summary": "Peers, their workspaces and the server itself, over HTTP.",
            "license": { "name": "MIT", "identifier": "MIT" }
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas(routes),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "The password (`requirepass`)." },
                "basic": { "type": "http", "scheme": "basic", "description": "Any user, and the password (`requirepass`)." }
            }
        }
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": id(route),
        "summary": route.help,
        "tags": [tag(route)],
        "parameters": route.params.iter().flat_map(parameters).collect::<Vec<_>>(),
        "responses": responses(route),
        // Where no password is set, none is needed.
        "security": if route.access == Access::Guarded { json!([{ "bearer": [] }, { "basic": [] }, {}]) } else { json!([]) },
    });
    if let Some(body) = &route.body {
        operation["requestBody"] = request_body(body);
    }
    operation
}

/// `get_workspaces_workspace_ctx_key`
fn id(route: &Route) -> String {
    let words = route.path.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.fold(route.method.as_str().to_ascii_lowercase(), |id, word| format!("{id}_{word}"))
}

/// The first word of its path.
fn tag(route: &Route) -> &'static str {
    route.path.split('/').nth(1).filter(|word| !word.is_empty()).unwrap_or("index")
}

/// A parameter, and the header that stands for it.
fn parameters(param: &'static Param) -> Vec<Value> {
    let place = match param.place {
        Place::Path => "path",
        Place::Query => "query",
        Place::Header => "header",
    };
    let one = |name: &str, place: &str, help: &str| {
        json!({
            "name": name, "in": place, "required": place == "path", "description": help, "schema": param.kind.schema(),
        })
    };
    let stand_in = param.stand_in().map(|name| one(&name, "header", &format!("The same as `?{}=`, which wins.", param.name)));
    std::iter::once(one(param.name, place, param.help)).chain(stand_in).collect()
}

fn request_body(body: &Body) -> Value {
    let limit = body.limit.name;
    let help = format!("{} At most as many bytes as the setting `{limit}` says.", body.help);
    json!({
        "description": help,
        "required": body.is_required,
        "content": { body.media: { "schema": body.shape.schema() } },
    })
}

fn responses(route: &Route) -> Value {
    let mut responses = Map::new();
    for gives in route.gives.chunk_by(|one, next| one.status == next.status) {
        responses.insert(gives[0].status.to_string(), response(gives));
    }
    let mut errors: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for code in route.codes().filter_map(refusal::named) {
        errors.entry(code.status).or_default().push(format!("`{}`: {}", code.name, code.help));
    }
    for (status, meanings) in errors {
        let response = responses.entry(status.to_string()).or_insert_with(|| json!({ "description": "", "content": {} }));
        let before = response["description"].as_str().unwrap_or_default();
        response["description"] = [before, &meanings.join("; ")].join(if before.is_empty() { "" } else { " " }).into();
        let error = Shape::The(&ERROR).schema();
        let json = &mut response["content"]["application/json"];
        // A status that also tells something else is one or the other.
        *json = match json["schema"].take() {
            Value::Null => json!({ "schema": error }),
            other => json!({ "schema": { "anyOf": [other, error] } }),
        };
    }
    responses.into()
}

/// All answers that have one status.
fn response(gives: &[Gives]) -> Value {
    let help: Vec<&str> = gives.iter().map(|gives| gives.help).collect();
    let mut response = json!({ "description": help.join(" ") });
    for gives in gives {
        if !gives.media.is_empty() {
            response["content"][gives.media] = json!({ "schema": gives.shape.schema() });
        }
        for (name, help) in gives.headers {
            response["headers"][*name] = json!({ "description": help, "schema": { "type": "string" } });
        }
    }
    response
}

/// The schemas that have names.
fn schemas(routes: &[&'static Route]) -> BTreeMap<&'static str, Value> {
    let shapes = routes.iter().flat_map(|route| {
        let given = route.gives.iter().map(|gives| gives.shape);
        given.chain(route.body.as_ref().map(|body| body.shape))
    });
    let named = shapes.filter_map(Shape::named).chain([&ERROR]);
    named.flat_map(|named| named.all()).collect()
}
