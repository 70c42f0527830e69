//! What the server answers about peers, as people like to read it: tables whose columns line up, one fact on each line.

use serde_json::Value;

/// Letters of a value that a table or an event shows; the rest is cut, `--json` has it all.
const SHOWN_MAX: usize = 120;

/// A table: its head, then rows, columns as wide as their widest cell.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// A field as text without quotes; a dash if it is missing.
fn field(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

/// Strangers' text without what would steer a terminal, cut to a line.
fn plain(text: &str) -> String {
    let shown: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(SHOWN_MAX).collect();
    if shown.len() < text.len() && text.chars().nth(SHOWN_MAX).is_some() { format!("{shown}…") } else { shown }
}

/// The names in a list of names or of things that have one.
fn names(list: &Value) -> String {
    let names = list.as_array().into_iter().flatten().map(|item| item["name"].as_str().or(item.as_str()).unwrap_or("?"));
    let names: Vec<String> = names.map(plain).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

/// Peers, by name.
pub(crate) fn peers(peers: &[Value]) -> String {
    if peers.is_empty() {
        return "no peers\n".to_owned();
    }
    let mut rows: Vec<Vec<String>> = peers
        .iter()
        .map(|peer| vec![field(peer, "name"), field(peer, "id"), names(&peer["capabilities"]), names(&peer["workspaces"])])
        .collect();
    rows.sort();
    table(&["NAME", "ID", "CAPABILITIES", "WORKSPACES"], &rows)
}

/// Capabilities, by name.
pub(crate) fn capabilities(capabilities: &[Value]) -> String {
    if capabilities.is_empty() {
        return "no capabilities\n".to_owned();
    }
    let row = |capability: &Value| {
        let has_schema = if capability["schema"].is_null() { "-" } else { "yes" };
        vec![field(capability, "name"), names(&capability["peers"]), has_schema.to_owned(), field(capability, "description")]
    };
    let mut rows: Vec<Vec<String>> = capabilities.iter().map(row).collect();
    rows.sort();
    table(&["CAPABILITY", "PEERS", "SCHEMA", "DESCRIPTION"], &rows)
}

/// One capability, whole.
pub(crate) fn capability(capability: &Value) -> String {
    let mut text = format!("{}: {}\n", field(capability, "name"), field(capability, "description"));
    if !capability["schema"].is_null() {
        text.push_str(&format!("payload: {:#}\n", capability["schema"]));
    }
    for name in ["calls", "failed"] {
        if !capability[name].is_null() {
            text.push_str(&format!("{name}: {}\n", field(capability, name)));
        }
    }
    let peers = capability["peers"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> =
        peers.map(|peer| ["name", "id", "running", "queued"].iter().map(|name| field(peer, name)).collect()).collect();
    text + &table(&["NAME", "ID", "RUNNING", "QUEUED"], &rows)
}

/// Workspaces, by name.
pub(crate) fn workspaces(workspaces: &[Value]) -> String {
    if workspaces.is_empty() {
        return "no workspaces\n".to_owned();
    }
    let mut rows: Vec<Vec<String>> = workspaces
        .iter()
        .map(|workspace| ["name", "peers", "contextKeys"].iter().map(|name| field(workspace, name)).collect())
        .collect();
    rows.sort();
    table(&["WORKSPACE", "PEERS", "CONTEXT KEYS"], &rows)
}

/// One fact on each line.
pub(crate) fn fields(value: &Value) -> String {
    let fields = value.as_object().into_iter().flatten();
    let width = value.as_object().into_iter().flatten().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields.map(|(name, _)| format!("{name:<width$}  {}\n", field(value, name))).collect()
}

/// A call's result: a text as it is, anything else as indented JSON.
pub(crate) fn result(json: &str) -> String {
    match serde_json::from_str::<Value>(json) {
        Ok(Value::String(text)) => format!("{text}\n"),
        Ok(value) => format!("{value:#}\n"),
        Err(_) => format!("{json}\n"),
    }
}

/// An event on one line: who, what, which key, with what.
pub(crate) fn event(event: &Value) -> String {
    let what = match (event["type"].as_str().unwrap_or("?"), event["deleted"].as_bool()) {
        ("ctx:updated", Some(true)) => "ctx:deleted",
        (kind, _) => kind,
    };
    let mut line = format!("{:<12} {}", plain(what), field(event, "peerName"));
    if event["key"].is_string() {
        line.push_str(&format!("  {}", field(event, "key")));
    }
    if !event["data"].is_null() {
        let data = event["data"].as_str().map_or_else(|| event["data"].to_string(), str::to_owned);
        line.push_str(&format!("  {}", plain(&data)));
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let list =
            [json!({"name": "workshop", "peers": 3, "contextKeys": 0}), json!({"name": "a", "peers": 12, "contextKeys": 7})];
        assert_eq!(workspaces(&list), "WORKSPACE  PEERS  CONTEXT KEYS\na          12     7\nworkshop   3      0\n");
    }

    #[test]
    fn a_strangers_name_cannot_steer_the_terminal() {
        let list = [json!({"name": "\u{1b}[2Jevil\n", "id": "1", "capabilities": [{"name": "x"}], "workspaces": []})];
        let text = peers(&list);
        assert!(!text.contains('\u{1b}') && text.lines().count() == 2, "{text:?}");
    }

    #[test]
    fn events_are_one_line_each() {
        let changed = json!({"type": "ctx:updated", "peerName": "ada", "key": "plan", "data": {"a": [1, 2]}});
        assert_eq!(event(&changed), "ctx:updated  ada  plan  {\"a\":[1,2]}\n");
        let gone = json!({"type": "ctx:updated", "peerName": "ada", "key": "plan", "deleted": true});
        assert_eq!(event(&gone), "ctx:deleted  ada  plan\n");
    }
}
