//! E-mail, the door that only sends: nobody is read there, and nothing is shown that changes later. What
//! goes out by it goes by the installation's [`Mailer`]; here is only how that is, for people.

use std::time::Duration;

use shared::email::Mailer;

use crate::doctor::Finding;

/// Its name.
pub const NAME: &str = "email";

/// How long a mail server may take to be examined.
const PATIENCE: Duration = Duration::from_secs(15);

/// Goes as far with the mail server as one can without sending a letter.
pub async fn examine(mailer: &dyn Mailer) -> Finding {
    let examined = tokio::time::timeout(PATIENCE, mailer.examine()).await;
    let why = match examined {
        Ok(Ok(server)) => {
            let found = format!("{server} takes letters from us; none was sent");
            return Finding::ok(NAME, found);
        }
        Ok(Err(failure)) => failure.message,
        Err(_) => format!("no answer in {} s", PATIENCE.as_secs()),
    };
    Finding::problem(
        NAME,
        why,
        "see [email] in majordomo.toml; docs/email.md says what each message means",
    )
}
