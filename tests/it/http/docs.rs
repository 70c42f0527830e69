//! The pages and descriptions of the routes: what they show, and that nobody else's page can use them.

use super::Door;

/// A browser's headers for a page that its user goes to.
const BROWSER: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");

#[test]
fn a_browser_gets_a_page_and_a_program_gets_json() {
    let door = Door::open(&[]);
    let page = door.ask("GET", "/", &[BROWSER], "");
    assert!(page.header("content-type").unwrap().starts_with("text/html"), "{page:?}");
    assert!(page.body.contains("<code>GET /workspaces/{workspace}/ctx/{key}</code>"), "{}", page.body);
    let listed = door.ask("GET", "/", &[("Accept", "*/*")], "");
    assert_eq!((listed.header("content-type"), listed.header("vary")), (Some("application/json"), Some("accept")));
    let listed: serde_json::Value = serde_json::from_str(&listed.body).unwrap();
    let routes = listed["routes"].as_array().unwrap();
    assert!(routes.iter().any(|route| route["path"] == "/call/{capability}" && route["method"] == "POST"), "{listed}");
}

#[test]
fn the_page_shows_every_route_with_its_parameters_answers_and_errors() {
    let door = Door::open(&[]);
    let (_, page) = door.get("/docs");
    let openapi: serde_json::Value = serde_json::from_str(&door.get("/openapi.json").1).unwrap();
    for (path, operations) in openapi["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let method = method.to_uppercase();
            let start = page.find(&format!("<summary><code>{method} {path}</code>")).unwrap_or_else(|| panic!("{method} {path}"));
            let shown = &page[start..start + page[start..].find("</details>").unwrap()];
            assert!(shown.contains(&format!("<form data-method=\"{method}\" data-path=\"{path}\">")), "{shown}");
            for parameter in operation["parameters"].as_array().unwrap() {
                let name = parameter["name"].as_str().unwrap();
                assert!(name.starts_with("Flux-") || shown.contains(&format!("name=\"{name}\"")), "{method} {path}: {name}");
            }
            for status in operation["responses"].as_object().unwrap().keys() {
                assert!(shown.contains(&format!("<tr><td>{status}<td>")), "{method} {path}: {status}");
            }
        }
    }
}

#[test]
fn the_pages_need_nothing_of_others_and_run_nothing_but_their_own_script() {
    let door = Door::open(&[]);
    for path in ["/", "/docs"] {
        let page = door.ask("GET", path, &[BROWSER], "");
        let policy = page.header("content-security-policy").unwrap();
        for rule in ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
        {
            assert!(policy.contains(rule), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("x-frame-options"), Some("DENY"));
        let text = page.body.to_lowercase();
        assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("src=\"//"), "{text}");
        // Scripts within the page would be refused by the policy, and so would handlers in attributes.
        assert_eq!(text.matches("<script").count(), text.matches("<script src=\"/docs/docs.js\" defer></script>").count());
        let tags = text.split('<').skip(1).map(|tag| tag.split('>').next().unwrap_or_default());
        let handlers: Vec<&str> = tags.filter(|tag| tag.contains(" on") || tag.contains("javascript:")).collect();
        assert!(handlers.is_empty() && !text.contains("style="), "{handlers:?}");
    }
    for (file, kind) in [("docs.js", "text/javascript"), ("docs.css", "text/css")] {
        let answer = door.ask("GET", &format!("/docs/{file}"), &[], "");
        assert!(answer.status == 200 && answer.header("content-type").unwrap().starts_with(kind), "{answer:?}");
        let text = answer.body;
        assert!(!text.contains("http") && !text.contains("innerHTML") && !text.contains("eval("), "{text}");
    }
    assert_eq!(door.get("/docs/other.js").0, 404);
}

#[test]
fn no_page_of_strangers_can_read_or_show_the_docs() {
    let door = Door::open(&[]);
    for path in ["/", "/docs", "/docs/docs.js", "/openapi.json"] {
        for headers in [
            &[("Origin", "https://evil.example")][..],
            &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "script")],
            &[("Host", "evil.example:3000"), ("Origin", "http://evil.example:3000")],
        ] {
            let answer = door.ask("GET", path, headers, "");
            assert_eq!(answer.status, 403, "{path} {headers:?}");
            assert_eq!(answer.header("access-control-allow-origin"), None, "{path} {headers:?}");
        }
        // Asked without an origin, nobody but the page itself may read it.
        assert_eq!(door.ask("GET", path, &[], "").header("access-control-allow-origin"), None, "{path}");
    }
    // A frame is a navigation, which is let in; the page itself forbids that it is shown there.
    let framed = [BROWSER, ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")];
    let answer = door.ask("GET", "/docs", &framed, "");
    assert!(answer.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"), "{answer:?}");
    // What its forms would send is refused from any other page, and taken from this one.
    let call = |origin: &str| door.ask("PUT", "/workspaces/alpha/ctx/goal", &[("Origin", origin)], "1").status;
    assert_eq!((call("https://evil.example"), call(&format!("http://{}", door.address))), (403, 200));
}

#[test]
fn where_a_password_is_set_the_docs_are_as_open_as_the_index() {
    let door = Door::open(&[("requirepass", "secret")]);
    for path in ["/", "/docs", "/docs/docs.css", "/openapi.json"] {
        assert_eq!(door.get(path).0, 200, "{path}");
        assert_eq!(door.ask("GET", path, &[("Host", "evil.example")], "").status, 403, "{path}");
    }
    assert_eq!(door.get("/peers").0, 401);
}
