//! What all admins hear of: one word for each of them, once, in the outboxes of the channels where they
//! are. Which of them hear it is for whoever tells it to say.

use shared::id::TenantId;
use shared::store::{Error, Identity, Store};

use super::Word;

/// Owes these admins a text. What is told under the same key again is told once.
pub async fn tell(
    (store, tenant): (&dyn Store, &TenantId),
    admins: impl IntoIterator<Item = Identity>,
    (key, text): (&str, &str),
) -> Result<(), Error> {
    for Identity { channel, id } in admins {
        let out = Word::saying(text).owed(channel, format!("{key}/{id}"), id);
        store.mail().say(tenant, out).await?;
    }
    Ok(())
}
