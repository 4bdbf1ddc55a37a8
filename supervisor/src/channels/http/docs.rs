//! The page at `/docs`: the description at `/openapi.json`, for people. Made once, without a script and
//! without anything from elsewhere, so that it reads the same offline.

use std::fmt::Write as _;

use serde_json::Value;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
    padding:0 1rem}table{border-collapse:collapse;margin:.5rem 0}td,th{border:1px solid #8886;\
    padding:.2rem .6rem;text-align:left;vertical-align:top}code{font-family:ui-monospace,monospace}\
    section{border-top:1px solid #8886;margin-top:2rem}:root{color-scheme:light dark}";

/// The page for a description.
pub fn page(api: &Value) -> String {
    let mut page = String::new();
    let (title, about) = (
        text(&api["info"]["title"]),
        text(&api["info"]["description"]),
    );
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}: HTTP</title>\
         <style>{STYLE}</style></head><body><h1>{title}</h1><p>{about}</p>\
         <p>Send <code>Authorization: Bearer TOKEN</code>; <code>majordomo token new</code> makes a \
         token. For programs: <a href=\"/openapi.json\">/openapi.json</a>.</p>"
    );
    let operations = operations(api);
    page.push_str("<table><tr><th>operation</th><th></th></tr>");
    for operation in &operations {
        let (name, summary) = (operation.name(), text(&operation.about["summary"]));
        let id = text(&operation.about["operationId"]);
        let _ = write!(
            page,
            "<tr><td><a href=\"#{id}\"><code>{name}</code></a></td><td>{summary}</td></tr>"
        );
    }
    page.push_str("</table>");
    for operation in &operations {
        operation.describe(&mut page);
    }
    page.push_str("<section><h2>Bodies</h2>");
    for (name, schema) in members(&api["components"]["schemas"]) {
        let _ = write!(
            page,
            "<h3 id=\"{0}\"><code>{0}</code></h3><p>{1}</p>",
            escape(name),
            text(&schema["description"])
        );
        fields(&mut page, schema);
    }
    page.push_str("</section></body></html>\n");
    page
}

struct Operation<'a> {
    method: &'a str,
    path: &'a str,
    about: &'a Value,
}

fn operations(api: &Value) -> Vec<Operation<'_>> {
    const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];
    members(&api["paths"])
        .flat_map(|(path, all)| {
            members(all)
                .filter(|(method, _)| METHODS.contains(method))
                .map(move |(method, about)| Operation {
                    method,
                    path,
                    about,
                })
        })
        .collect()
}

impl Operation<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.method.to_uppercase(), escape(self.path))
    }

    fn describe(&self, page: &mut String) {
        let about = self.about;
        let _ = write!(
            page,
            "<section id=\"{}\"><h2><code>{}</code></h2><p>{} {}</p>",
            text(&about["operationId"]),
            self.name(),
            text(&about["summary"]),
            text(&about["description"])
        );
        let parameters = about["parameters"].as_array().into_iter().flatten();
        let rows: Vec<[String; 3]> = parameters
            .map(|one| {
                let kind = format!("{}, {}", text(&one["in"]), kind(&one["schema"]));
                [text(&one["name"]), kind, text(&one["description"])]
            })
            .collect();
        table(page, ["parameter", "", ""], &rows);
        for (media, content) in members(&about["requestBody"]["content"]) {
            let _ = write!(
                page,
                "<p>Body: {}, <code>{}</code></p>",
                kind(&content["schema"]),
                escape(media)
            );
        }
        let rows: Vec<[String; 3]> = members(&about["responses"])
            .map(|(status, answer)| {
                let bodies =
                    members(&answer["content"]).map(|(_, content)| kind(&content["schema"]));
                let bodies: Vec<String> = bodies.collect();
                [
                    escape(status),
                    bodies.join(", "),
                    text(&answer["description"]),
                ]
            })
            .collect();
        table(page, ["answer", "body", ""], &rows);
        page.push_str("</section>");
    }
}

fn fields(page: &mut String, schema: &Value) {
    let required = |name: &str| {
        let mut all = schema["required"].as_array().into_iter().flatten();
        all.any(|one| one == name)
    };
    let rows: Vec<[String; 3]> = members(&schema["properties"])
        .map(|(name, field)| {
            let must = if required(name) { ", required" } else { "" };
            [
                escape(name),
                format!("{}{must}", kind(field)),
                text(&field["description"]),
            ]
        })
        .collect();
    table(page, ["field", "", ""], &rows);
}

fn table(page: &mut String, head: [&str; 3], rows: &[[String; 3]]) {
    if rows.is_empty() {
        return;
    }
    let [a, b, c] = head;
    let _ = write!(page, "<table><tr><th>{a}</th><th>{b}</th><th>{c}</th></tr>");
    for [a, b, c] in rows {
        let _ = write!(
            page,
            "<tr><td><code>{a}</code></td><td>{b}</td><td>{c}</td></tr>"
        );
    }
    page.push_str("</table>");
}

/// What a schema wants, in a word; a named one leads to its fields.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|to| to.rsplit('/').next()) {
        let name = escape(name);
        return format!("<a href=\"#{name}\"><code>{name}</code></a>");
    }
    if schema["items"].is_object() {
        return format!("list of {}", kind(&schema["items"]));
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        if let Some(all) = schema[choice].as_array() {
            let meant = all.iter().filter(|one| one["type"] != "null");
            return meant.map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    match &schema["type"] {
        Value::String(name) => escape(name),
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str);
            let names: Vec<&str> = names.filter(|name| *name != "null").collect();
            escape(&names.join(" or "))
        }
        _ => "any".into(),
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let members = value.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.as_str(), value))
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
