//! A text for each JSON value that is the same for equal values: 1 and 1.0 are equal, and the order of properties is no matter.

use std::fmt::Write;

use serde_json::{Number, Value};

/// Above this, not every whole number is a floating-point number, and 1.0 could stand for several.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The text of a value.
pub fn text(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Number(number) => write_number(number, text),
        Value::String(string) => write_string(string, text),
        Value::Array(items) => {
            text.push('[');
            for item in items {
                write(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(object) => {
            let mut names: Vec<&String> = object.keys().collect();
            names.sort_unstable();
            text.push('{');
            for name in names {
                write_string(name, text);
                write(&object[name], text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Null | Value::Bool(_) => {
            let _ = write!(text, "{value}");
        }
    }
}

/// With its length before it, no two strings can be mistaken for each other, whatever they contain.
fn write_string(string: &str, text: &mut String) {
    let _ = write!(text, "{}:", string.len());
    text.push_str(string);
}

fn write_number(number: &Number, text: &mut String) {
    let _ = match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) if float.fract() == 0.0 && float.abs() <= WHOLE_MAX => write!(text, "{}", float as i64),
        Some(float) => write!(text, "{float:e}"),
        None => write!(text, "{number}"),
    };
}
