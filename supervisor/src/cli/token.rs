//! `majordomo token`: API tokens. A secret is printed once, when it is made, and kept as hash alone.

use clap::Subcommand;

use super::access::Access;
use super::context::Context;
use super::exit::{Exit, Fault};
use super::words;
use shared::id::PrincipalId;

use crate::auth::{self, Scope};
use crate::desk::Desk;
use crate::wire::TokenView;

/// Everything that a token may be allowed.
pub const ALL_SCOPES: [&str; 4] = ["tasks", "on_behalf", "approve", "admin"];

/// Makes, lists and revokes API tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token and print its secret, once.
    #[command(after_help = "Examples:
  majordomo token new ci
  majordomo token new bridge --scope tasks --scope on_behalf
  majordomo token new ops --scope admin --principal alice")]
    New {
        /// A name for people, unique among live tokens.
        name: String,
        /// What it may do; may be given several times. tasks: hand in tasks, see and cancel its own,
        /// answer their questions. on_behalf: hand in tasks for users. approve: decide what people are
        /// asked in any task. admin: everything, for all.
        #[arg(long = "scope", value_name = "SCOPE", value_parser = ALL_SCOPES, default_value = "tasks")]
        scopes: Vec<String>,
        /// Who acts when it is used; `token:NAME` where absent.
        #[arg(long, value_name = "NAME")]
        principal: Option<String>,
    },
    /// List tokens, revoked ones too.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token: from the next request on it opens nothing.
    Revoke {
        /// Its name.
        name: String,
    },
}

/// Runs the command.
pub async fn run(context: &Context, token: Token) -> anyhow::Result<Exit> {
    let access = Access::to_look(context).await?;
    let done = work(&access, token).await;
    access.close().await;
    done
}

async fn work(access: &Access, token: Token) -> anyhow::Result<Exit> {
    match token {
        Token::New {
            name,
            scopes,
            principal,
        } => {
            let secret = match access {
                Access::Live(client) => client.mint(&name, principal.as_deref(), &scopes).await?,
                Access::Own(app) => mint(&app.desk, &name, principal, scopes).await?,
                Access::Store(desk) => mint(desk, &name, principal, scopes).await?,
            };
            eprintln!("token `{name}`, shown only this once:");
            words::say(format_args!("{secret}"));
        }
        Token::List { json } => {
            let tokens = list(access).await?;
            match json {
                true => words::say(format_args!("{}", serde_json::to_string_pretty(&tokens)?)),
                false => words::say(format_args!(
                    "{}",
                    table(&tokens, shared::clock::now().0).trim_end()
                )),
            }
        }
        Token::Revoke { name } => {
            let revoked = match access {
                Access::Live(client) => client.revoke(&name).await?,
                Access::Own(app) => app.store.revoke_token(app.tenant(), &name).await?,
                Access::Store(desk) => desk.store.revoke_token(&desk.tenant, &name).await?,
            };
            if !revoked {
                let fault = Fault::failed(format!("there is no live token named {name}"));
                return Err(fault.help("`majordomo token list` shows them").into());
            }
            eprintln!("token `{name}` is revoked");
        }
    }
    Ok(Exit::Done)
}

/// Makes a token and answers its secret.
pub async fn mint(
    desk: &Desk,
    name: &str,
    principal: Option<String>,
    scopes: Vec<String>,
) -> anyhow::Result<String> {
    let scopes: Vec<Scope> = scopes
        .iter()
        .filter_map(|name| Scope::parse(name))
        .collect();
    let principal = principal.map(PrincipalId::from);
    let minted = auth::mint(&*desk.store, &desk.tenant, name, principal, &scopes).await;
    let (_, secret) = minted.map_err(|error| Fault::usage(error.to_string()))?;
    Ok(secret.expose().to_owned())
}

async fn list(access: &Access) -> anyhow::Result<Vec<TokenView>> {
    let tokens = match access {
        Access::Live(client) => return client.tokens().await,
        Access::Own(app) => app.store.tokens(app.tenant()).await?,
        Access::Store(desk) => desk.store.tokens(&desk.tenant).await?,
    };
    Ok(tokens.into_iter().map(TokenView::from).collect())
}

fn table(tokens: &[TokenView], now_ms: i64) -> String {
    let row = |token: &TokenView| {
        vec![
            token.name.clone(),
            token.principal.clone(),
            token.scopes.join(","),
            words::age(now_ms - token.created_at_ms),
            token.revoked_at_ms.map_or("live".into(), |at| {
                format!("revoked {} ago", words::age(now_ms - at))
            }),
        ]
    };
    let rows: Vec<Vec<String>> = tokens.iter().map(row).collect();
    words::table(
        &["name", "principal", "scopes", "age", "state"],
        &rows,
        &[3],
    )
}
