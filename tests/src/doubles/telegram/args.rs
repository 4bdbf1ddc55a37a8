//! The parameters of a call: query string, form, JSON or multipart, all strings in the end.
//!
//! The real server flattens everything to strings too, so a number and its digits are the same and
//! an object in a JSON body is the same as its text in a form.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use serde_json::Value;

use super::world::Upload;

/// Parameters and files of one call.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// The parameters.
    pub fields: BTreeMap<String, String>,
    /// The files, by the name of their part.
    pub files: BTreeMap<String, Upload>,
}

impl Args {
    /// Reads query string and body; an error is what is wrong with the body.
    pub async fn read(query: &str, headers: &HeaderMap, body: Bytes) -> Result<Self, String> {
        let mut args = Self::default();
        args.add_form(query);
        let content_type = headers.get(header::CONTENT_TYPE);
        let content_type = content_type
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        if body.is_empty() {
            return Ok(args);
        }
        if content_type.starts_with("application/json") {
            args.add_json(&body)?;
        } else if content_type.starts_with("multipart/form-data") {
            args.add_multipart(content_type, body).await?;
        } else if content_type.starts_with("application/x-www-form-urlencoded") {
            args.add_form(&String::from_utf8_lossy(&body));
        } else {
            return Err("unsupported Content-Type".to_owned());
        }
        Ok(args)
    }

    /// From JSON, as a webhook's answer gives them.
    pub fn from_json(body: &[u8]) -> Result<Self, String> {
        let mut args = Self::default();
        args.add_json(body)?;
        Ok(args)
    }

    fn add_form(&mut self, form: &str) {
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(form).unwrap_or_default();
        self.fields.extend(pairs);
    }

    fn add_json(&mut self, body: &[u8]) -> Result<(), String> {
        let value = serde_json::from_slice(body);
        let Ok(Value::Object(object)) = value else {
            return Err("can't parse JSON object".to_owned());
        };
        for (name, value) in object {
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text,
                other => other.to_string(),
            };
            self.fields.insert(name, text);
        }
        Ok(())
    }

    async fn add_multipart(&mut self, content_type: &str, body: Bytes) -> Result<(), String> {
        let boundary = multer::parse_boundary(content_type).map_err(|e| e.to_string())?;
        let stream = futures::stream::once(async move { Ok::<_, std::io::Error>(body) });
        let mut parts = multer::Multipart::new(stream, boundary);
        while let Some(part) = parts.next_field().await.map_err(|e| e.to_string())? {
            let name = part.name().unwrap_or_default().to_owned();
            let file = part.file_name().map(str::to_owned);
            let mime = part.content_type().map(ToString::to_string);
            let bytes = part.bytes().await.map_err(|e| e.to_string())?;
            match file {
                Some(file) => {
                    let upload = Upload {
                        name: file,
                        mime: mime.unwrap_or_else(|| "application/octet-stream".to_owned()),
                        bytes: bytes.to_vec(),
                        claimed_size: None,
                        photo: false,
                    };
                    self.files.insert(name, upload);
                }
                None => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    self.fields.insert(name, text);
                }
            }
        }
        Ok(())
    }

    /// A parameter; absent is empty.
    pub fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Whether it is given at all.
    pub fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// As a number; what is none counts as 0, as on the real server.
    pub fn int(&self, name: &str, absent: i64) -> i64 {
        match self.get(name) {
            "" => absent,
            text => text.trim().parse().unwrap_or(0),
        }
    }

    /// As a flag.
    pub fn flag(&self, name: &str) -> bool {
        let value = self.get(name).to_ascii_lowercase();
        matches!(value.as_str(), "true" | "yes" | "1")
    }
}
