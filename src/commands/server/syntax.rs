//! A command's syntax line as the tree of arguments that `COMMAND DOCS` gives: `key [NX | XX] [member ...]`.
//!
//! `[…]` may be left out, `<… | …>` is a choice, words in capitals are written as they stand, and `[x ...]` behind `x`
//! repeats it.

use crate::resp::Reply;

/// An argument, or several that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Argument {
    name: String,
    kind: &'static str,
    token: Option<String>,
    is_optional: bool,
    is_multiple: bool,
    parts: Vec<Argument>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Word(String),
    /// In square brackets: alternatives, of which one or none.
    Optional(Vec<Vec<Item>>),
    /// In angle brackets: alternatives, of which one.
    Choice(Vec<Vec<Item>>),
}

/// The arguments of a syntax line.
pub(crate) fn arguments(syntax: &str) -> Vec<Argument> {
    let spaced = ["[", "]", "<", ">", "|"].iter().fold(syntax.to_owned(), |text, mark| text.replace(mark, &format!(" {mark} ")));
    let mut words = spaced.split_whitespace();
    let alternatives = items(&mut words);
    if alternatives.len() > 1 { vec![group(&alternatives)] } else { sequence(&alternatives[0]) }
}

/// Reads up to the bracket that closes: alternatives, each a sequence.
fn items<'a>(words: &mut impl Iterator<Item = &'a str>) -> Vec<Vec<Item>> {
    let mut alternatives = vec![Vec::new()];
    while let Some(word) = words.next() {
        let item = match word {
            "]" | ">" => break,
            "|" => {
                alternatives.push(Vec::new());
                continue;
            }
            "[" => Item::Optional(items(words)),
            "<" => Item::Choice(items(words)),
            word => Item::Word(word.to_owned()),
        };
        alternatives.last_mut().expect("there is at least one").push(item);
    }
    alternatives
}

fn is_token(word: &str) -> bool {
    !word.chars().any(|letter| letter.is_ascii_lowercase())
}

fn sequence(items: &[Item]) -> Vec<Argument> {
    let mut arguments: Vec<Argument> = Vec::new();
    let mut token: Option<String> = None;
    for item in items {
        if let Item::Optional(alternatives) = item
            && let [repeated] = alternatives.as_slice()
            && repeated.last() == Some(&Item::Word("...".into()))
        {
            repeat(&mut arguments, repeated.len() - 1);
            continue;
        }
        let mut argument = match item {
            Item::Word(word) if is_token(word) => {
                if let Some(before) = token.replace(word.clone()) {
                    arguments.push(pure_token(before));
                }
                continue;
            }
            Item::Word(word) => named(word),
            Item::Optional(alternatives) => Argument { is_optional: true, ..group(alternatives) },
            Item::Choice(alternatives) => group(alternatives),
        };
        if let Some(before) = token.take() {
            if argument.is_optional || argument.token.is_some() {
                arguments.push(pure_token(before));
            } else {
                argument.token = Some(before);
            }
        }
        arguments.push(argument);
    }
    arguments.extend(token.map(pure_token));
    arguments
}

/// Makes the last arguments, which are named again with dots, one that repeats.
fn repeat(arguments: &mut Vec<Argument>, count: usize) {
    let parts = arguments.split_off(arguments.len().saturating_sub(count.max(1)));
    match <[Argument; 1]>::try_from(parts) {
        Ok([mut part]) => {
            part.is_multiple = true;
            arguments.push(part);
        }
        Err(parts) if parts.is_empty() => {}
        Err(parts) => arguments.push(Argument { is_multiple: true, ..block(parts) }),
    }
}

fn group(alternatives: &[Vec<Item>]) -> Argument {
    if let [only] = alternatives {
        return one_of_sequence(only);
    }
    let parts: Vec<Argument> = alternatives.iter().map(|items| one_of_sequence(items)).collect();
    let name = parts.first().map_or(String::new(), |part| part.name.clone());
    Argument { name, kind: "oneof", token: None, is_optional: false, is_multiple: false, parts }
}

fn one_of_sequence(items: &[Item]) -> Argument {
    // A token before several words names all of them: `LIMIT offset count`.
    if let [Item::Word(token), rest @ ..] = items
        && is_token(token)
        && rest.len() > 1
    {
        let parts = sequence(rest);
        if parts.len() > 1 {
            return Argument { name: token.to_lowercase(), token: Some(token.clone()), ..block(parts) };
        }
    }
    match <[Argument; 1]>::try_from(sequence(items)) {
        Ok([only]) => only,
        Err(parts) => block(parts),
    }
}

fn block(parts: Vec<Argument>) -> Argument {
    let name = parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join("_");
    Argument { name, kind: "block", token: None, is_optional: false, is_multiple: false, parts }
}

fn pure_token(token: String) -> Argument {
    let name = token.to_lowercase();
    Argument { name, kind: "pure-token", token: Some(token), is_optional: false, is_multiple: false, parts: Vec::new() }
}

fn named(word: &str) -> Argument {
    Argument {
        name: word.to_owned(),
        kind: kind_of(word),
        token: None,
        is_optional: false,
        is_multiple: false,
        parts: Vec::new(),
    }
}

fn kind_of(word: &str) -> &'static str {
    match word {
        "key" | "key1" | "key2" | "source" | "destination" | "newkey" | "destkey" | "sourcekey" => "key",
        "pattern" => "pattern",
        "score" | "min" | "max" | "longitude" | "latitude" | "radius" | "width" | "height" | "weight" => "double",
        "unix-time-seconds" | "unix-time-milliseconds" => "unix-time",
        "count" | "seconds" | "milliseconds" | "index" | "index1" | "index2" | "offset" | "start" | "stop" | "end"
        | "timeout" | "db" | "increment" | "decrement" | "numkeys" | "cursor" | "rank" | "len" | "maxlen" | "bit" | "limit"
        | "port" | "numfields" | "element-count" => "integer",
        _ => "string",
    }
}

impl Argument {
    /// Writes it as `COMMAND DOCS` does. `key_spec`: counts the keys that were written.
    pub(crate) fn write(&self, reply: &mut Reply, key_spec: &mut i64) {
        let is_key = self.kind == "key";
        let has_flags = self.is_optional || self.is_multiple;
        let fields = 2 + [is_key, self.token.is_some(), has_flags, !self.parts.is_empty()].iter().filter(|has| **has).count();
        reply.map(fields);
        put(reply, "name", &self.name);
        put(reply, "type", self.kind);
        if is_key {
            reply.bulk(b"key_spec_index");
            reply.int(*key_spec);
            *key_spec += 1;
        }
        if let Some(token) = &self.token {
            put(reply, "token", token);
        }
        if has_flags {
            reply.bulk(b"flags");
            reply.set(usize::from(self.is_optional) + usize::from(self.is_multiple));
            if self.is_optional {
                reply.simple("optional");
            }
            if self.is_multiple {
                reply.simple("multiple");
            }
        }
        if !self.parts.is_empty() {
            reply.bulk(b"arguments");
            reply.array(self.parts.len());
            self.parts.iter().for_each(|part| part.write(reply, key_spec));
        }
    }
}

fn put(reply: &mut Reply, field: &str, value: &str) {
    reply.bulk(field.as_bytes());
    reply.bulk(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(argument: &Argument) -> String {
        let parts: Vec<String> = argument.parts.iter().map(shown).collect();
        let token = argument.token.as_ref().map_or(String::new(), |token| format!("{token}="));
        let marks = [(argument.is_optional, "?"), (argument.is_multiple, "*")];
        let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
        let inside = if parts.is_empty() { String::new() } else { format!("({})", parts.join(" ")) };
        format!("{token}{}:{}{inside}{marks}", argument.name, argument.kind)
    }

    #[test]
    fn syntax_lines_become_trees() {
        for (syntax, tree) in [
            ("key", "key:key"),
            (
                "key value [NX | XX] [GET]",
                "key:key value:string nx:oneof(NX=nx:pure-token XX=xx:pure-token)? GET=get:pure-token?",
            ),
            ("member [member ...]", "member:string*"),
            ("[channel [channel ...]]", "channel:string?*"),
            ("score member [score member ...]", "score_member:block(score:double member:string)*"),
            ("[LIMIT offset count]", "LIMIT=limit:block(offset:integer count:integer)?"),
            ("[EX seconds | KEEPTTL]", "seconds:oneof(EX=seconds:integer KEEPTTL=keepttl:pure-token)?"),
            ("<ON | OFF>", "on:oneof(ON=on:pure-token OFF=off:pure-token)"),
        ] {
            let shown: Vec<String> = arguments(syntax).iter().map(shown).collect();
            assert_eq!(shown.join(" "), tree, "{syntax}");
        }
    }
}
