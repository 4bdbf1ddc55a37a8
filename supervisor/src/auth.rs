//! Who may do what. Tokens are made here, callers are recognised here, and [`Caller::may`] is the one
//! place that decides, whatever door somebody stands at.
//!
//! A token is 256 random bits, shown once; the store holds its SHA-256 only. Every request looks it
//! up anew, so a revoked one opens nothing from the next request on. Tokens are made on the machine
//! itself (`majordomo token new`), never by another token, so nobody can widen their own.
//!
//! Not here: how a token travels (the doors), and which folders or tools a task may use (intake).

use std::fmt;

use subtle::ConstantTimeEq;

use shared::hash::Hash;
use shared::id::{PrincipalId, TenantId};
use shared::store::{Store, Token};
use shared::task::Task;

/// How the secret of a stored token begins, so that people and scanners know one when they see it.
pub const TOKEN_PREFIX: &str = "mj_";
/// How the secret of an instance's own token begins.
pub const LOCAL_PREFIX: &str = "mjlocal_";
/// The principal of people at the machine itself.
pub const LOCAL: &str = "local";
/// The longest name of a token or a user in characters.
pub const MAX_NAME: usize = 128;
/// Random bytes in a secret.
const RANDOM: usize = 32;

/// What a token may do. A token without any may do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Hand in tasks; see and cancel its own, and answer their questions.
    Tasks,
    /// Hand in tasks for a user of its choice.
    OnBehalf,
    /// See its own tasks; see and decide what people are asked in any task of the tenant.
    Approve,
    /// See, cancel and settle every task of the tenant; name folders; read metrics.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Scope; 4] = [Scope::Tasks, Scope::OnBehalf, Scope::Approve, Scope::Admin];

    /// The scope's name in the store and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Tasks => "tasks",
            Scope::OnBehalf => "on_behalf",
            Scope::Approve => "approve",
            Scope::Admin => "admin",
        }
    }

    /// The scope of this name.
    pub fn parse(name: &str) -> Option<Scope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// A token's secret. It is printed once and sent by its owner; it shows itself in no log.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    fn fresh(prefix: &str) -> Result<Self, NoRandomness> {
        let bytes = random::<RANDOM>()?;
        Ok(Self(format!("{prefix}{}", hex::encode(bytes))))
    }

    /// The text, for its owner's eyes.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn hash(&self) -> Hash {
        Hash::of_bytes(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no random bytes: {0}")]
pub struct NoRandomness(String);

/// So many random bytes of the system's.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| NoRandomness(error.to_string()))?;
    Ok(bytes)
}

/// The token of one running instance: for commands on the same machine, which read it from the data
/// folder. It is new at each start and never in the store.
#[derive(Clone, Debug)]
pub struct LocalToken(Secret);

impl LocalToken {
    /// A fresh one.
    pub fn fresh() -> Result<Self, NoRandomness> {
        Secret::fresh(LOCAL_PREFIX).map(Self)
    }

    /// The text, to be written where only the instance's owner can read it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Whether this text is it; takes the same time whatever the text.
    pub fn is(&self, text: &str) -> bool {
        let (mine, theirs) = (self.0.hash(), Hash::of_bytes(text.as_bytes()));
        let (mine, theirs) = (mine.to_string(), theirs.to_string());
        mine.as_bytes().ct_eq(theirs.as_bytes()).into()
    }
}

/// Why a token was not made.
#[derive(Debug, thiserror::Error)]
pub enum NotMinted {
    /// The name cannot be used.
    #[error("{0:?} is no name for a token: use 1 to {MAX_NAME} letters, digits, `-`, `_` and `.`")]
    Name(String),
    /// A live token has the name.
    #[error("there is a live token {0:?}; revoke it first or choose another name")]
    Taken(String),
    /// No scope was given.
    #[error("a token without scopes opens nothing; give at least `tasks`")]
    NoScope,
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] shared::store::Error),
}

/// Makes a token and keeps its hash. The secret comes back this once. Who acts with it is
/// `principal`, or `token:NAME`; a token that is revoked and made again under its name goes on with
/// its tasks.
pub async fn mint(
    store: &dyn Store,
    tenant: &TenantId,
    name: &str,
    principal: Option<PrincipalId>,
    scopes: &[Scope],
) -> Result<(Token, Secret), NotMinted> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
        return Err(NotMinted::Name(name.into()));
    }
    if scopes.is_empty() {
        return Err(NotMinted::NoScope);
    }
    let secret = Secret::fresh(TOKEN_PREFIX)?;
    let chosen = |scope: &Scope| scopes.contains(scope);
    let token = Token {
        name: name.into(),
        tenant: tenant.clone(),
        principal: principal.unwrap_or_else(|| format!("token:{name}").into()),
        scopes: Scope::ALL
            .into_iter()
            .filter(chosen)
            .map(|scope| scope.as_str().into())
            .collect(),
        created_at: store.now(),
        revoked_at: None,
    };
    if !store.add_token(token.clone(), secret.hash()).await? {
        return Err(NotMinted::Taken(name.into()));
    }
    Ok((token, secret))
}

/// The principal of a user that a service names. Users, tokens and people at the machine have names
/// of their own kinds, so none can stand for another.
pub fn user_principal(user: &str) -> PrincipalId {
    format!("user:{user}").into()
}

/// Somebody who was recognised.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who acts.
    pub principal: PrincipalId,
    scopes: Vec<Scope>,
    /// The stored token that was shown; none for the instance's own.
    token: Option<(TenantId, Hash)>,
}

impl Caller {
    /// Somebody at the machine itself.
    pub fn local() -> Self {
        Self {
            principal: LOCAL.into(),
            scopes: vec![Scope::Admin, Scope::OnBehalf],
            token: None,
        }
    }

    /// Whether the token is still good. The instance's own lives as long as the instance.
    pub async fn is_live(&self, store: &dyn Store) -> Result<bool, shared::store::Error> {
        match &self.token {
            Some((tenant, hash)) => Ok(store.token(tenant, *hash).await?.is_some()),
            None => Ok(true),
        }
    }

    /// What tells the stored token that was shown from others; none for the instance's own.
    pub fn token(&self) -> Option<Hash> {
        self.token.as_ref().map(|(_, hash)| *hash)
    }

    /// Whether the caller has this scope.
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// The one decision on what a caller may do. What may not be seen is [`Denied::Hidden`], so that
    /// nobody learns from the answer that it exists.
    pub fn may(&self, act: Act<'_>) -> Result<(), Denied> {
        use Scope::{Admin, Approve, OnBehalf, Tasks};
        if let Some(task) = act.task()
            && !self.sees(task)
        {
            return Err(Denied::Hidden);
        }
        match act {
            Act::See(_) | Act::List | Act::Hear => self.need(&[Tasks, Approve, Admin]),
            Act::Cancel(_) | Act::Renew(_) | Act::Submit => self.need(&[Tasks, Admin]),
            Act::Settle(_) | Act::KeepPermits => self.need(&[Approve, Admin]),
            Act::ActFor => self.need(&[OnBehalf]),
            Act::NameFolder
            | Act::Measure
            | Act::Examine
            | Act::Stop
            | Act::KeepBudgets
            | Act::KeepPeople
            | Act::KeepChannels => self.need(&[Admin]),
            Act::KeepTokens if self.token.is_none() => Ok(()),
            Act::KeepTokens => Err(Denied::Elsewhere),
        }
    }

    /// Whose tasks a list is kept to; none for all.
    pub fn sees_only(&self) -> Option<PrincipalId> {
        (!self.has(Scope::Admin)).then(|| self.principal.clone())
    }

    fn sees(&self, task: &Task) -> bool {
        let own = [&task.principal, &task.submitted_by].contains(&&self.principal);
        own || self.has(Scope::Admin)
    }

    fn need(&self, any: &'static [Scope]) -> Result<(), Denied> {
        match any.iter().any(|scope| self.has(*scope)) {
            true => Ok(()),
            false => Err(Denied::Scope(any[0])),
        }
    }
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug)]
pub enum Act<'a> {
    /// Hand in a task.
    Submit,
    /// Hand it in for a user.
    ActFor,
    /// Choose the folder that it reads.
    NameFolder,
    /// List tasks.
    List,
    /// See a task and all that happened in it.
    See(&'a Task),
    /// End a task.
    Cancel(&'a Task),
    /// Make a task from it: a retry or a fork, with the same authority.
    Renew(&'a Task),
    /// Say what a task waits for a person to say.
    Settle(&'a Task),
    /// See what people are asked, and say something to it: what, [`may_decide`](crate::asks::may_decide)
    /// decides.
    Hear,
    /// See, give and take back permits: what, [`permits`](crate::permits) decides.
    KeepPermits,
    /// Read metrics.
    Measure,
    /// Examine the installation.
    Examine,
    /// Stop everything, an agent or any task, and let it go on.
    Stop,
    /// See and set limits, and see what was used.
    KeepBudgets,
    /// Make codes for people, list people and unlink them.
    KeepPeople,
    /// Try channels, and have them deliver what they could not.
    KeepChannels,
    /// Make, list and revoke tokens: only people at the machine itself.
    KeepTokens,
}

impl<'a> Act<'a> {
    fn task(self) -> Option<&'a Task> {
        match self {
            Act::See(task) | Act::Cancel(task) | Act::Renew(task) | Act::Settle(task) => Some(task),
            Act::Submit
            | Act::ActFor
            | Act::NameFolder
            | Act::List
            | Act::Hear
            | Act::KeepPermits
            | Act::Measure
            | Act::Examine
            | Act::Stop
            | Act::KeepBudgets
            | Act::KeepPeople
            | Act::KeepChannels
            | Act::KeepTokens => None,
        }
    }
}

/// Why something may not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The caller may not even know of it.
    #[error("there is no such task")]
    Hidden,
    /// Only people at the machine itself may.
    #[error("tokens are kept with `majordomo token` on the machine itself")]
    Elsewhere,
    /// A scope is missing.
    #[error("this needs a token with the scope `{}`", .0.as_str())]
    Scope(Scope),
}

/// Recognises who shows this secret; `None` where it opens nothing.
pub async fn recognise(
    store: &dyn Store,
    tenant: &TenantId,
    local: &LocalToken,
    shown: &str,
) -> Result<Option<Caller>, shared::store::Error> {
    if local.is(shown) {
        return Ok(Some(Caller::local()));
    }
    if !shown.starts_with(TOKEN_PREFIX) || shown.len() != TOKEN_PREFIX.len() + 2 * RANDOM {
        return Ok(None);
    }
    let hash = Hash::of_bytes(shown.as_bytes());
    let found = store.token(tenant, hash).await?;
    let token = found.filter(|token| token.revoked_at.is_none());
    Ok(token.map(|token| Caller {
        scopes: token
            .scopes
            .iter()
            .filter_map(|name| Scope::parse(name))
            .collect(),
        principal: token.principal,
        token: Some((tenant.clone(), hash)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::store::sqlite::SqliteStore;

    fn tenant() -> TenantId {
        "home".into()
    }

    #[tokio::test]
    async fn a_minted_token_is_known_by_its_secret_until_it_is_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        let local = LocalToken::fresh().unwrap();
        let (token, secret) = mint(&store, &tenant(), "ci", None, &[Scope::Tasks])
            .await
            .unwrap();
        assert_eq!(token.principal, "token:ci".into());
        assert!(secret.expose().starts_with(TOKEN_PREFIX) && secret.expose().len() == 67);

        let known = |text: String| {
            let (store, local) = (&store, &local);
            async move { recognise(store, &tenant(), local, &text).await.unwrap() }
        };
        assert_eq!(
            known(secret.expose().into()).await.unwrap().principal,
            "token:ci".into()
        );
        assert_eq!(
            known(local.expose().into()).await.unwrap().principal,
            LOCAL.into()
        );
        assert!(known(format!("{}0", secret.expose())).await.is_none());
        assert!(known(token.name.clone()).await.is_none());
        assert!(
            known(secret.hash().to_string()).await.is_none(),
            "the hash opens nothing"
        );
        let other = recognise(&store, &"other".into(), &local, secret.expose())
            .await
            .unwrap();
        assert!(other.is_none(), "another tenant's token opens nothing");

        assert!(store.revoke_token(&tenant(), "ci").await.unwrap());
        assert!(known(secret.expose().into()).await.is_none());
    }

    #[tokio::test]
    async fn a_name_is_taken_while_its_token_lives() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        mint(&store, &tenant(), "ci", None, &[Scope::Tasks])
            .await
            .unwrap();
        let again = mint(&store, &tenant(), "ci", None, &[Scope::Tasks]).await;
        assert!(matches!(again, Err(NotMinted::Taken(_))), "{again:?}");
        store.revoke_token(&tenant(), "ci").await.unwrap();
        mint(&store, &tenant(), "ci", None, &[Scope::Tasks])
            .await
            .unwrap();
        let named = mint(&store, &tenant(), "a b", None, &[Scope::Tasks]).await;
        assert!(matches!(named, Err(NotMinted::Name(_))), "{named:?}");
        let bare = mint(&store, &tenant(), "bare", None, &[]).await;
        assert!(matches!(bare, Err(NotMinted::NoScope)), "{bare:?}");
    }

    #[test]
    fn no_secret_shows_itself() {
        let token = LocalToken::fresh().unwrap();
        assert_eq!(format!("{token:?}"), "LocalToken(Secret(…))");
    }

    #[test]
    fn scopes_open_what_they_say_and_nothing_else() {
        use Scope::{Admin, Approve, OnBehalf, Tasks};
        let acts = [
            (Act::Submit, vec![Tasks, Admin]),
            (Act::List, vec![Tasks, Approve, Admin]),
            (Act::Hear, vec![Tasks, Approve, Admin]),
            (Act::ActFor, vec![OnBehalf]),
            (Act::NameFolder, vec![Admin]),
            (Act::Measure, vec![Admin]),
            (Act::Stop, vec![Admin]),
            (Act::KeepBudgets, vec![Admin]),
            (Act::KeepPeople, vec![Admin]),
            (Act::KeepChannels, vec![Admin]),
        ];
        for (act, open_to) in acts {
            for scope in Scope::ALL {
                let caller = Caller {
                    principal: "token:x".into(),
                    scopes: vec![scope],
                    token: None,
                };
                assert_eq!(
                    caller.may(act).is_ok(),
                    open_to.contains(&scope),
                    "{act:?} {scope:?}"
                );
            }
        }
    }
}
