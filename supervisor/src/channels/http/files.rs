//! `GET /v1/tasks/{id}/files/{name}`: a file that a task wrote, as its journal has it. Whoever may see the
//! task may fetch it. It is never shown as a page of this server: agents write what they like.

use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use shared::id::TaskId;

use super::Door;
use super::problem::{Kind, Problem};
use crate::auth::{Act, Caller};
use crate::channels::papers::enclose::plain_name;
use crate::files::TaskFile;
use crate::wire::ProblemBody;

/// A file that a task wrote. A slash in its name is written `%2F`.
#[utoipa::path(get, path = "/v1/tasks/{id}/files/{name}", tag = "tasks", operation_id = "get_file",
    params(("id" = String, Path, format = "uuid"), ("name" = String, Path)),
    responses(
        (status = 200, description = "Its bytes", body = [u8], content_type = "application/octet-stream"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn fetch(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Path((id, name)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let missing = || Problem::new(Kind::NotFound, "the task has no file of this name");
    let id: TaskId = id.parse().map_err(|_| missing())?;
    let task = door.task(id).await?;
    caller.may(Act::See(&task))?;
    let Some((file, blob)) = door.desk().file(id, &name).await? else {
        return Err(missing());
    };
    let kind = HeaderValue::from_str(&format!("{}; charset=utf-8", blob.mime));
    let headers: [(HeaderName, HeaderValue); 4] = [
        (
            header::CONTENT_TYPE,
            kind.unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream")),
        ),
        (header::CONTENT_DISPOSITION, disposition(&file)),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; sandbox"),
        ),
    ];
    Ok((headers, blob.bytes.to_vec()).into_response())
}

/// Its name, in the form of RFC 6266 that holds any.
fn disposition(file: &TaskFile) -> HeaderValue {
    let name = plain_name(file.short_name());
    let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    let name = name.replace('+', "%20").replace('*', "%2A");
    let value = format!("attachment; filename*=UTF-8''{name}");
    HeaderValue::from_str(&value).unwrap_or_else(|_| HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::hash::Hash;

    #[test]
    fn names_are_written_so_that_nothing_in_them_counts() {
        let of = |name: &str| {
            let file = TaskFile {
                name: name.into(),
                mime: "text/plain".into(),
                bytes: 1,
                hash: Hash::of_bytes(b"x"),
            };
            disposition(&file).to_str().unwrap().to_owned()
        };
        assert_eq!(of("docs/a b.md"), "attachment; filename*=UTF-8''a%20b.md");
        assert_eq!(
            of("ü\r\n\";x=1"),
            "attachment; filename*=UTF-8''%C3%BC%22%3Bx%3D1"
        );
        assert_eq!(
            of("a\u{202e}fdp.exe"),
            "attachment; filename*=UTF-8''afdp.exe"
        );
    }
}
