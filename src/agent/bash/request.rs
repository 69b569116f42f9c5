use serde_json::Value;

use crate::{
    agent::http::{ApiError, ApiResult, Fault, integer, json_fault, python_repr},
    protocol::StartBashCommand,
};

/// The field that is wrong, what is wrong with it, and its value.
type FieldFault = (&'static str, Fault, Value);

fn fields(body: &Value) -> Result<StartBashCommand, Vec<FieldFault>> {
    let mut faults = Vec::new();
    let mut field = |name: &'static str, value: &Value, fault: Fault| faults.push((name, fault, value.clone()));
    let not_text = || Fault::new("string_type", "Input should be a valid string");
    let command = match body.get("command") {
        Some(Value::String(text)) => text.clone(),
        Some(other) => {
            field("command", other, not_text());
            String::new()
        }
        None => {
            field("command", body, Fault::missing());
            String::new()
        }
    };
    let cwd = match body.get("cwd") {
        Some(Value::String(text)) => Some(text.clone()),
        None | Some(Value::Null) => None,
        Some(other) => {
            field("cwd", other, not_text());
            None
        }
    };
    let timeout = match body.get("timeout") {
        None => 300,
        Some(value) => whole_number(value).unwrap_or_else(|fault| {
            field("timeout", value, fault);
            0
        }),
    };
    if faults.is_empty() { Ok(StartBashCommand { command, cwd, timeout }) } else { Err(faults) }
}

fn whole_number(value: &Value) -> Result<i64, Fault> {
    match value {
        Value::Bool(flag) => Ok(i64::from(*flag)),
        Value::String(text) => integer(text),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Ok(whole),
            // Beyond 64 bits the conversion gives the nearest there is: such a timeout is for ever either way.
            (None, Some(float)) if float.fract() == 0.0 => Ok(float as i64),
            _ => {
                let text = "Input should be a valid integer, got a number with a fractional part";
                Err(Fault::new("int_from_float", text))
            }
        },
        _ => Err(Fault::new("int_type", "Input should be a valid integer")),
    }
}

/// Reads the body of a start; a 422 that lists everything that is wrong with it.
pub(super) fn from_body(body: &Value) -> ApiResult<StartBashCommand> {
    if !body.is_object() {
        let text = "Input should be a valid dictionary or object to extract fields from";
        return Err(ApiError::invalid(vec![Fault::new("model_attributes_type", text).entry(&["body"], body.clone())]));
    }
    let entries = |faults: Vec<FieldFault>| {
        faults.into_iter().map(|(name, fault, input)| fault.entry(&["body", name], input)).collect()
    };
    fields(body).map_err(|faults| ApiError::invalid(entries(faults)))
}

/// Reads a frame of the event socket; the code and the text of what is wrong with it.
pub(super) fn from_frame(text: &str) -> Result<StartBashCommand, (&'static str, String)> {
    let frame: Value = serde_json::from_str(text).map_err(|error| {
        let (at, words) = json_fault(text, &error);
        let before: Vec<_> = text.chars().take(at).collect();
        let line = before.iter().filter(|c| **c == '\n').count() + 1;
        let column = before.iter().rev().take_while(|c| **c != '\n').count() + 1;
        ("JSONDecodeError", format!("{words}: line {line} column {column} (char {at})"))
    })?;
    let invalid = |faults: Vec<(Option<&'static str>, Fault, Value)>| ("ValidationError", validation_text(faults));
    if !frame.is_object() {
        let fault = "Input should be a valid dictionary or instance of ExecuteBashRequest";
        return Err(invalid(vec![(None, Fault::new("model_type", fault), frame)]));
    }
    fields(&frame)
        .map_err(|faults| invalid(faults.into_iter().map(|(name, fault, input)| (Some(name), fault, input)).collect()))
}

/// Words faults as the real server's validation library does.
fn validation_text(faults: Vec<(Option<&'static str>, Fault, Value)>) -> String {
    let plural = if faults.len() == 1 { "" } else { "s" };
    let mut text = format!("{} validation error{plural} for ExecuteBashRequest", faults.len());
    for (name, fault, input) in faults {
        if let Some(name) = name {
            text.push('\n');
            text.push_str(name);
        }
        text.push_str(&format!(
            "\n  {} [type={kind}, input_value={}, input_type={}]\n    For further information visit \
             https://errors.pydantic.dev/2.14/v/{kind}",
            fault.message,
            shortened(&python_value(&input)),
            python_type(&input),
            kind = fault.kind,
        ));
    }
    text
}

/// At most 50 characters, the middle left out.
fn shortened(text: &str) -> String {
    let characters: Vec<_> = text.chars().collect();
    if characters.len() <= 50 {
        return text.to_owned();
    }
    let (head, tail) = (&characters[..25], &characters[characters.len() - 24..]);
    head.iter().chain(['.', '.', '.'].iter()).chain(tail).collect()
}

fn python_value(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => python_repr(text),
        Value::Array(values) => format!("[{}]", values.iter().map(python_value).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{}: {}", python_repr(name), python_value(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

fn python_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn timeouts_are_read_as_leniently_as_by_the_real_server() {
        for (given, seconds) in
            [(json!(2.0), 2), (json!("7"), 7), (json!(true), 1), (json!(-5), -5), (json!(1e30), i64::MAX)]
        {
            assert_eq!(fields(&json!({"command": "x", "timeout": given})).unwrap().timeout, seconds);
        }
        assert_eq!(fields(&json!({"command": "x"})).unwrap().timeout, 300);
        for (given, kind) in [(json!(1.5), "int_from_float"), (json!("x"), "int_parsing"), (json!(null), "int_type")] {
            assert_eq!(fields(&json!({"command": "x", "timeout": given})).unwrap_err()[0].1.kind, kind);
        }
    }

    #[test]
    fn a_wrong_frame_is_told_in_the_words_of_the_real_server() {
        let (code, text) = from_frame(r#"{"command":1,"timeout":"x"}"#).unwrap_err();
        assert_eq!(code, "ValidationError");
        assert_eq!(
            text,
            "2 validation errors for ExecuteBashRequest\ncommand\n  Input should be a valid string [type=string_type, \
             input_value=1, input_type=int]\n    For further information visit \
             https://errors.pydantic.dev/2.14/v/string_type\ntimeout\n  Input should be a valid integer, unable to parse \
             string as an integer [type=int_parsing, input_value='x', input_type=str]\n    For further information visit \
             https://errors.pydantic.dev/2.14/v/int_parsing"
        );
        let nothing = ("JSONDecodeError", "Expecting value: line 1 column 1 (char 0)".to_owned());
        assert_eq!(from_frame("").unwrap_err(), nothing);
    }
}
