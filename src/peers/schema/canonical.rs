//! A text for each JSON value that is the same for equal values: 1 and 1.0 are equal, and the order of properties is no matter.

use std::fmt::Write;

use serde_json::{Number, Value};

use crate::peers::schema::budget::{Budget, Spent, text_steps};

/// Above this, not every whole number is a floating-point number, and 1.0 could stand for several.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// Steps for one value, whatever is in it.
const VALUE_STEPS: usize = 15;

/// The text of a value; None where it would be longer than so many bytes.
pub(crate) fn text(value: &Value, bytes_max: usize, budget: &mut Budget<'_>) -> Result<Option<String>, Spent> {
    let mut writer = Writer { text: String::new(), bytes_max, budget };
    let is_whole = writer.write(value)?;
    Ok(is_whole.then_some(writer.text))
}

struct Writer<'b, 'w> {
    text: String,
    bytes_max: usize,
    budget: &'b mut Budget<'w>,
}

impl Writer<'_, '_> {
    /// False where there is no room for it.
    fn write(&mut self, value: &Value) -> Result<bool, Spent> {
        self.budget.spend(VALUE_STEPS)?;
        match value {
            Value::Number(number) => self.write_number(number),
            Value::String(string) => return self.write_string(string),
            Value::Array(items) => {
                self.text.push('[');
                for item in items {
                    if !self.write(item)? {
                        return Ok(false);
                    }
                    self.text.push(',');
                }
                self.text.push(']');
            }
            Value::Object(object) => {
                // Each takes more than a byte.
                if object.len() > self.bytes_max {
                    return Ok(false);
                }
                self.budget.spend(VALUE_STEPS * object.len())?;
                let mut names: Vec<&String> = object.keys().collect();
                names.sort_unstable();
                self.text.push('{');
                for name in names {
                    if !self.write_string(name)? || !self.write(&object[name])? {
                        return Ok(false);
                    }
                    self.text.push(',');
                }
                self.text.push('}');
            }
            Value::Null | Value::Bool(_) => {
                let _ = write!(self.text, "{value}");
            }
        }
        Ok(self.text.len() <= self.bytes_max)
    }

    /// With its length before it, no two strings can be mistaken for each other, whatever they contain.
    fn write_string(&mut self, string: &str) -> Result<bool, Spent> {
        if string.len() > self.bytes_max - self.text.len().min(self.bytes_max) {
            return Ok(false);
        }
        self.budget.spend(text_steps(string.len()))?;
        let _ = write!(self.text, "{}:", string.len());
        self.text.push_str(string);
        Ok(self.text.len() <= self.bytes_max)
    }

    fn write_number(&mut self, number: &Number) {
        let _ = match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) if float.fract() == 0.0 && float.abs() <= WHOLE_MAX => write!(self.text, "{}", float as i64),
            Some(float) => write!(self.text, "{float:e}"),
            None => write!(self.text, "{number}"),
        };
    }
}
