//! What somebody is told who wants to be known in another chat, too: a code, made at the moment in which
//! it is sent. What rests in the outbox until then says for whom, and no code; so one that was told is
//! nowhere but in the chat, and its minutes begin when it gets there. An attempt that is repeated makes
//! another one.

use super::Channel;
use crate::people::Known;
use crate::people::directory::{CODE_LASTS, Directory, NoCode, Who};
use shared::store::Error;

/// What stands for it where no code can be made.
pub const NONE: &str = "I cannot make a code just now. Write `pair` once more in some minutes.";

/// The words with a fresh code for whoever has this id in a channel; none where they are not known there
/// by a name any more, or no code can be made.
pub async fn invitation(
    people: &Directory,
    channel: &dyn Channel,
    id: &str,
) -> Result<Option<String>, Error> {
    let Who::Known(known @ Known { named: true, .. }) = people.who(channel, id).await? else {
        return Ok(None);
    };
    let code = match people.offer_own(&known, channel.name()).await {
        Ok((code, _)) => code.expose(),
        Err(NoCode::Store(error)) => return Err(error),
        Err(error) => {
            tracing::error!(%error, "a code could not be made");
            return Ok(None);
        }
    };
    let minutes = CODE_LASTS.as_secs() / 60;
    Ok(Some(format!(
        "Write this to me from your other chat, in private, within {minutes} minutes. It works once, and \
         whoever writes it is **{}** to me:\n\n- in Telegram: `{} {code}`\n- in Slack: `{} {code}`",
        known.principal,
        typed("telegram", "pair"),
        typed("slack", "pair"),
    )))
}

/// How a word to the house is typed in a channel: Slack takes words with a stroke for its own.
pub fn typed(channel: &str, word: &str) -> String {
    match channel {
        "slack" => word.to_owned(),
        _ => format!("/{word}"),
    }
}
