//! What a fault makes of an answer. The services differ only in how they say 500.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::doubles::fault::{BAD_GATEWAY_HTML, FailHow};
use crate::doubles::front::hangup;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html");

/// The answer of a call whose work is not to be done; `error500` is how the service says 500.
pub async fn before_work(fault: Option<FailHow>, error500: &Value) -> Option<Response<Body>> {
    let fault = fault.filter(|f| !f.does_the_work())?;
    tokio::time::sleep(fault.silence()).await;
    Some(match fault {
        FailHow::Error500 => json(StatusCode::INTERNAL_SERVER_ERROR, error500),
        FailHow::BadGateway => bad_gateway(),
        _ => hangup(),
    })
}

/// What becomes of the right answer.
pub async fn after_work(fault: Option<FailHow>, response: Response<Body>) -> Response<Body> {
    let Some(fault) = fault else {
        return response;
    };
    tokio::time::sleep(fault.silence()).await;
    match fault {
        FailHow::DropAfter | FailHow::HangAfter { .. } => hangup(),
        FailHow::BadGatewayAfter => bad_gateway(),
        FailHow::Malformed if response.headers().get(header::CONTENT_TYPE) == Some(&JSON) => {
            let mut cut = Response::new(Body::from(r#"{"ok":true,"result":{"message_id":"#));
            *cut.headers_mut() = response.headers().clone();
            cut
        }
        _ => response,
    }
}

/// A JSON answer.
pub fn json(status: StatusCode, body: &Value) -> Response<Body> {
    typed(status, JSON, body.to_string())
}

/// An HTML answer.
pub fn html(status: StatusCode, body: &str) -> Response<Body> {
    typed(status, HTML, body.to_owned())
}

fn bad_gateway() -> Response<Body> {
    html(StatusCode::BAD_GATEWAY, BAD_GATEWAY_HTML)
}

fn typed(status: StatusCode, kind: HeaderValue, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
