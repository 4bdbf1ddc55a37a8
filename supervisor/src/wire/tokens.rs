//! Tokens, as they are made and listed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use shared::store::Token;

/// A token to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenOrder {
    /// A name for people, unique among live tokens.
    pub name: String,
    /// Who acts when it is used; `token:NAME` where absent.
    #[serde(default)]
    pub principal: Option<String>,
    /// What it may do: tasks, on_behalf, approve, admin.
    pub scopes: Vec<String>,
}

/// A new token's secret: shown this once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenSecret {
    /// The secret.
    pub token: String,
}

/// A token; its secret is nowhere.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its name.
    pub name: String,
    /// Who acts when it is used.
    pub principal: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When it was revoked.
    pub revoked_at_ms: Option<i64>,
}

/// All tokens.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenPage {
    /// Oldest first, revoked ones too.
    pub tokens: Vec<TokenView>,
}

impl From<Token> for TokenView {
    fn from(token: Token) -> Self {
        Self {
            name: token.name,
            principal: token.principal.to_string(),
            scopes: token.scopes,
            created_at_ms: token.created_at.0,
            revoked_at_ms: token.revoked_at.map(|at| at.0),
        }
    }
}
