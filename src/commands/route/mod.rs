//! Routes: what can be asked over HTTP, a row each. A room lists its own; `http` has those of the house itself and carries all of them. The
//! router, `GET /`, docs/http.md and schemas/openapi.json are made from the rows, and parameters are read by them, so that none can say
//! another thing than the next.
//!
//! - [`param`]: parameters, and the one parser of them. [`shape`]: what bodies look like.
//! - [`ask`]: what a handler gets. [`answer`] and [`sse`]: what it gives. [`refusal`]: errors, and the table of their codes.

pub(crate) mod answer;
pub(crate) mod ask;
pub(crate) mod param;
pub(crate) mod refusal;
pub(crate) mod shape;
pub(crate) mod sse;

use std::future::Future;
use std::pin::Pin;

use axum::http::Method;
use axum::response::Response;

use crate::config::Setting;

pub(crate) use ask::OpenLine;
pub use ask::{Ask, Line};
pub use param::{Kind, Param, Place};
pub use refusal::Refusal;
pub use shape::{Named, Shape};

/// What is sent, or why it isn't.
pub type Answer = Result<Response, Refusal>;
/// An answer on its way.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A path, how it may be asked, and what answers there.
pub struct Route {
    /// Of HTTP.
    pub(crate) method: Method,
    /// Where: `/workspaces/{workspace}/ctx/{key}`. Names in braces are parameters; one that [`Kind::takes_slashes`] stands last.
    pub(crate) path: &'static str,
    /// What it does, in a sentence or two.
    pub(crate) help: &'static str,
    /// Who may ask.
    pub(crate) access: Access,
    /// What may or must be said.
    pub(crate) params: &'static [Param],
    /// What is sent along.
    pub(crate) body: Option<Body>,
    /// How it is answered when all is well.
    pub(crate) gives: &'static [Gives],
    /// Codes of errors, beyond those that [`Route::codes`] knows of.
    pub(crate) errors: &'static [&'static str],
    /// What answers.
    pub(crate) answer: fn(Ask) -> Answering,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody without a password, and pages of any origin: it is the same on every server.
    Public,
    /// Everybody without a password, also while the server ends.
    Open,
    /// Who has the password, if there is one.
    Guarded,
    /// Everybody, since who asks is asked for the password within.
    AsksItself,
}

/// What is sent along with a request.
pub(crate) struct Body {
    /// Its media type. Others are taken as well: what counts is what is in it.
    pub media: &'static str,
    /// What it looks like.
    pub shape: Shape,
    /// What it means.
    pub help: &'static str,
    /// Whether there must be one.
    pub is_required: bool,
    /// The setting that says how many bytes it may have.
    pub limit: &'static Setting,
}

/// One way in which a request is answered.
pub struct Gives {
    /// Of HTTP.
    pub(crate) status: u16,
    /// Its media type; empty where there is no body.
    pub(crate) media: &'static str,
    /// What its body looks like.
    pub(crate) shape: Shape,
    /// What it means.
    pub(crate) help: &'static str,
    /// Headers that mean something, and what.
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

impl Route {
    /// A route that is asked with GET, by those who have the password.
    pub const fn get(path: &'static str, answer: fn(Ask) -> Answering) -> Route {
        Route::new(Method::GET, path, answer)
    }

    /// One that is asked with POST.
    pub(crate) const fn post(path: &'static str, answer: fn(Ask) -> Answering) -> Route {
        Route::new(Method::POST, path, answer)
    }

    /// One that is asked with PUT.
    pub(crate) const fn put(path: &'static str, answer: fn(Ask) -> Answering) -> Route {
        Route::new(Method::PUT, path, answer)
    }

    /// One that is asked with DELETE.
    pub(crate) const fn delete(path: &'static str, answer: fn(Ask) -> Answering) -> Route {
        Route::new(Method::DELETE, path, answer)
    }

    const fn new(method: Method, path: &'static str, answer: fn(Ask) -> Answering) -> Route {
        Route { method, path, help: "", access: Access::Guarded, params: &[], body: None, gives: &[], errors: &[], answer }
    }

    /// Says what it does.
    pub const fn help(mut self, help: &'static str) -> Route {
        self.help = help;
        self
    }

    /// Says who may ask, where it is not only those who have the password.
    pub(crate) const fn access(mut self, access: Access) -> Route {
        self.access = access;
        self
    }

    /// Says what may or must be said.
    pub const fn params(mut self, params: &'static [Param]) -> Route {
        self.params = params;
        self
    }

    /// Says what is sent along.
    pub(crate) const fn body(mut self, body: Body) -> Route {
        self.body = Some(body);
        self
    }

    /// Says how it is answered.
    pub const fn gives(mut self, gives: &'static [Gives]) -> Route {
        self.gives = gives;
        self
    }

    /// Says which errors there may be beyond those of all routes like it.
    pub const fn errors(mut self, codes: &'static [&'static str]) -> Route {
        self.errors = codes;
        self
    }

    /// The codes of all errors there may be.
    pub(crate) fn codes(&self) -> impl Iterator<Item = &'static str> {
        let guarded: &[&str] = match self.access {
            Access::Public | Access::Open => &["DENIED"],
            Access::AsksItself => &["DENIED", "ENDING"],
            Access::Guarded => &["NOAUTH", "DENIED", "ENDING", "MAXCLIENTS", "BROKEN"],
        };
        let read: &[&str] = if self.params.is_empty() && self.body.is_none() { &[] } else { &["ERR"] };
        let sent: &[&str] = if self.body.is_some() { &["TOOBIG", "SLOW"] } else { &[] };
        [read, guarded, sent, self.errors].into_iter().flatten().copied()
    }

    /// Its path as the router has it.
    pub(crate) fn pattern(&self) -> String {
        let slashed = self.params.iter().find(|param| param.place == Place::Path && param.kind.takes_slashes());
        match slashed {
            Some(param) => self.path.replace(&format!("{{{}}}", param.name), &format!("{{*{}}}", param.name)),
            None => self.path.to_owned(),
        }
    }
}

impl Gives {
    /// JSON.
    pub(crate) const fn json(shape: Shape, help: &'static str) -> Gives {
        Gives::body("application/json", shape, help)
    }

    /// A body of another kind.
    pub const fn body(media: &'static str, shape: Shape, help: &'static str) -> Gives {
        Gives { status: 200, media, shape, help, headers: &[] }
    }

    /// A status without a body.
    pub(crate) const fn nothing(status: u16, help: &'static str) -> Gives {
        Gives { status, media: "", shape: Shape::Any, help, headers: &[] }
    }

    /// The same with another status than 200.
    pub(crate) const fn status(mut self, status: u16) -> Gives {
        self.status = status;
        self
    }

    /// Says which headers mean something.
    pub(crate) const fn headers(mut self, headers: &'static [(&'static str, &'static str)]) -> Gives {
        self.headers = headers;
        self
    }
}
