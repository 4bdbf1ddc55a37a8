//! What is ordered on the command line, as intake takes it.

use shared::money::Usd;
use shared::task::{Budget, Request, Said};

use crate::app::App;
use crate::auth::LOCAL;
use crate::channels::papers::enclose::Enclosed;
use crate::channels::papers::turns::Owner;
use crate::cli::exit::Fault;
use crate::intake::Submission;
use crate::wire::{self, TaskOrder};

/// An order with its files in it.
pub(super) async fn enclosed(app: &App, mut order: TaskOrder) -> Result<Submission, Fault> {
    let (text, files) = (
        std::mem::take(&mut order.text),
        std::mem::take(&mut order.files),
    );
    let owner = Owner {
        tenant: app.desk.tenant.clone(),
        principal: LOCAL.into(),
    };
    let enclosed = wire::enclose((&app.readers, &owner), text, files).await;
    Ok(submission(order, enclosed.map_err(Fault::usage)?))
}

pub(super) fn submission(order: TaskOrder, enclosed: Enclosed) -> Submission {
    let budget = order.budget.unwrap_or_default();
    Submission {
        request: Request {
            text: enclosed.text,
            agent: order.agent.map(Into::into),
            channel: "cli".into(),
            thread: order.thread,
            metadata: order.metadata.unwrap_or_default(),
            budget: Budget {
                usd: budget.usd.map(Usd::from_dollars),
                tokens: budget.tokens,
            },
            said: Said::default(),
            priority: order.priority.unwrap_or_default(),
            images: enclosed.images,
        },
        principal: LOCAL.into(),
        submitted_by: LOCAL.into(),
        dedupe: None,
        read: order.dir.map(Into::into),
        card: None,
        since: None,
        blobs: enclosed.blobs,
    }
}
