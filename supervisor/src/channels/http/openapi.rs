//! The routes with their description: a handler that stands here is both answered and documented.

use std::sync::Arc;

use axum::Json;
use axum::handler::Handler;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;
use utoipa::OpenApi as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, OpenApi, SecurityRequirement};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{
    Door, again, asks, budgets, channels, docs, events, feedback, files, health, hooks, people,
    permits, settle, stop, tasks, tokens,
};

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Majordomo",
    description = "Hand in tasks, follow them, settle what waits for a person. Errors are \
                   `application/problem+json` and name the field at fault."
))]
struct Described;

/// Routes that need a token.
pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::with_openapi(Described::openapi())
        .routes(routes!(tasks::create, tasks::list))
        .routes(routes!(tasks::show))
        .routes(routes!(tasks::cancel))
        .routes(routes!(tasks::pause))
        .routes(routes!(tasks::resume))
        .routes(routes!(tasks::transcript))
        .routes(routes!(feedback::rate))
        .routes(routes!(files::fetch))
        .routes(routes!(again::retry))
        .routes(routes!(again::fork))
        .routes(routes!(again::dead))
        .routes(routes!(health::examine))
        .routes(routes!(events::follow))
        .routes(routes!(settle::settle))
        .routes(routes!(tokens::make, tokens::list))
        .routes(routes!(tokens::revoke))
        .routes(routes!(people::pair))
        .routes(routes!(people::list))
        .routes(routes!(people::remove))
        .routes(routes!(channels::list))
        .routes(routes!(channels::test))
        .routes(routes!(channels::retry))
        .routes(routes!(asks::approvals::list))
        .routes(routes!(asks::approvals::show, asks::approvals::decide))
        .routes(routes!(asks::questions::list))
        .routes(routes!(asks::questions::show, asks::questions::decide))
        .routes(routes!(asks::escalations::list))
        .routes(routes!(asks::escalations::show, asks::escalations::decide))
        .routes(routes!(permits::give, permits::list))
        .routes(routes!(permits::show, permits::revoke))
        .routes(routes!(stop::stop, stop::list))
        .routes(routes!(stop::resume))
        .routes(routes!(budgets::list, budgets::set))
        .routes(routes!(budgets::usage))
}

/// Routes that decide for themselves who may ask.
pub(super) fn open_routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(hooks::take))
}

/// One description of both.
pub(super) fn describe(mut api: OpenApi, open: OpenApi) -> OpenApi {
    api.merge(open);
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token of `majordomo token new`."))
        .build();
    let mut components = api
        .components
        .take()
        .unwrap_or_else(|| ComponentsBuilder::new().build());
    components.add_security_scheme("token", SecurityScheme::Http(token));
    api.components = Some(components);
    api.security = Some(vec![SecurityRequirement::new(
        "token",
        Vec::<String>::new(),
    )]);
    api
}

/// The description.
pub(super) async fn answer(api: Arc<OpenApi>) -> Json<OpenApi> {
    Json(OpenApi::clone(&api))
}

/// What answers with the description for people.
pub(super) fn docs(api: &OpenApi) -> impl Handler<((),), Arc<Door>> + use<> {
    // What cannot be written down as JSON could not be described either.
    let page: Arc<str> = docs::page(&serde_json::to_value(api).unwrap_or_default()).into();
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'",
        ),
    ];
    move || async move { (headers, String::from(&*page)).into_response() }
}
