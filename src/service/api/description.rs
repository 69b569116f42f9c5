//! The description of the API as a document.

use serde_json::{Map, Value, json};
use utoipa::{
    PartialSchema as _,
    openapi::{InfoBuilder, OpenApiBuilder},
};

use super::routes;
use crate::service::http::{Problem, ProblemKind};

const ABOUT: &str = "Drives many remote workspaces at once. Every answer that is an error is a problem document (RFC 9457) \
    whose `type` is a name that stays. Times are RFC 3339, durations whole milliseconds. Fields may be added; those that are \
    there stay as they are.";

/// What each tag is about.
const TAGS: [(&str, &str); 7] = [
    ("workspaces", "Remote sandboxes that run an agent server"),
    ("commands", "Shell commands on workspaces, and what they write"),
    ("files", "Files and directories of workspaces"),
    ("git", "Repositories in workspaces"),
    ("runs", "One operation over many workspaces, or jobs that take workspaces as they become free"),
    ("leases", "Workspaces that somebody has for themselves"),
    ("operations", "What those need who run the service"),
];

/// The document as JSON.
pub(super) fn json() -> Vec<u8> {
    serde_json::to_vec(&document()).unwrap_or_default()
}

fn document() -> Value {
    let (paths, components) = routes().describe();
    let info = InfoBuilder::new().title("workspace-fleet").version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT));
    let components = components.schema("Problem", Problem::schema()).build();
    let document = OpenApiBuilder::new().info(info.build()).paths(paths).components(Some(components)).build();
    let mut document = serde_json::to_value(document).unwrap_or_default();
    document["openapi"] = json!("3.1.0");
    document["security"] = json!([{ "key": [] }, { "session_key": [] }, {}]);
    document["components"]["securitySchemes"] = json!({
        "key": { "type": "http", "scheme": "bearer", "description": "A key of the service. None is needed where it has none." },
        "session_key": { "type": "apiKey", "in": "header", "name": "X-Session-API-Key",
            "description": "The same, as clients of agent servers send it." },
    });
    document["tags"] = TAGS.map(|(name, about)| json!({ "name": name, "description": about })).to_vec().into();
    document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"] =
        ProblemKind::ALL.iter().map(|kind| json!(kind)).collect();
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, item) in paths {
            for (method, operation) in item.as_object_mut().into_iter().flatten() {
                complete(path, method, operation);
            }
        }
    }
    document
}

/// Adds the answers that every operation of its kind may have.
fn complete(path: &str, method: &str, operation: &mut Value) {
    let is_open = operation.get("security").is_some();
    if is_open {
        operation["security"] = json!([{}]);
    }
    if let Some(parameters) = operation.get_mut("parameters").and_then(Value::as_array_mut) {
        parameters.iter_mut().for_each(optional_is_no_null);
    }
    let has_body = operation.get("requestBody").is_some();
    let about_a_thing = path.contains('{');
    let on_workspace = path.starts_with("/v1/workspaces/{name}") || path == "/v1/workspaces";
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    use ProblemKind as Kind;
    let mut kinds = vec![Kind::Misdirected, Kind::RateLimited, Kind::Internal, Kind::Unavailable];
    if !is_open {
        kinds.extend([Kind::Malformed, Kind::Unauthorized, Kind::InvalidRequest]);
    }
    if method != "get" {
        kinds.push(Kind::Forbidden);
    }
    if about_a_thing {
        kinds.push(Kind::NotFound);
    }
    if has_body {
        kinds.extend([Kind::TooSlow, Kind::LengthRequired, Kind::TooLarge, Kind::UnsupportedMediaType]);
    }
    if on_workspace || path.starts_with("/v1/commands/{id}/stop") || path.starts_with("/v1/runs") {
        kinds.extend([Kind::Conflict, Kind::WorkspaceFailed, Kind::WorkspaceTooSlow]);
    }
    for kind in kinds {
        let status = kind.status().as_u16().to_string();
        responses.entry(status).or_insert_with(|| json!({ "description": kind.title() }));
    }
    for (status, response) in responses.iter_mut() {
        if status.as_str() >= "400" {
            let schema = json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
            response["content"] = json!({ "application/problem+json": schema });
        }
        let headers =
            response.as_object_mut().map(|response| response.entry("headers").or_insert_with(|| Map::new().into()));
        if let Some(headers) = headers {
            let about = "The request's own id, or a new one";
            headers["X-Request-Id"] = json!({ "description": about, "schema": { "type": "string" } });
        }
    }
}

/// A parameter may be left out, but it cannot be null: in a query that would be a text.
fn optional_is_no_null(parameter: &mut Value) {
    let Some(schema) = parameter.get_mut("schema").and_then(Value::as_object_mut) else { return };
    if let Some(kinds) = schema.get("type").and_then(Value::as_array) {
        let kind = kinds.iter().find(|kind| *kind != "null").cloned().unwrap_or_else(|| json!("string"));
        schema.insert("type".to_owned(), kind);
    }
    if let Some(choices) = schema.get("oneOf").and_then(Value::as_array)
        && let Some(choice) = choices.iter().find(|choice| choice.get("$ref").is_some()).cloned()
    {
        schema.remove("oneOf");
        schema.extend(choice.as_object().cloned().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
        assert_eq!(document["openapi"], "3.1.0");
    }
}
