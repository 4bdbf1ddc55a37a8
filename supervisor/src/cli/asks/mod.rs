//! What people are asked, on the command line: `approvals`, `approve`, `reject`, `questions`, `answer`,
//! `escalations`. Listing and showing is the same for all; [`text`] draws, [`inline`] is what `ask` does
//! with it on a terminal.

pub mod inline;
pub mod text;

use std::io::{IsTerminal, Write};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::Value;

use shared::ask::Decision;
use shared::money::Usd;
use shared::store::AskFilter;

use super::access::Access;
use super::context::Context;
use super::exit::{Exit, Fault};
use super::permits::{self, Extent};
use super::words;
use crate::asks::{Collection, PREFIX};
use crate::wire::AskView;

/// Lists what may not be done without somebody's word, or shows one of them in full.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  majordomo approvals                  what waits for a decision
  majordomo approvals show 1a2b3c4d    all of one, before you decide it
  majordomo approve 1a2b3c4d")]
pub struct Approvals {
    #[command(subcommand)]
    look: Option<Look>,
    #[command(flatten)]
    list: List,
}

/// Lists what agents want to know from people, or shows one of it in full.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  majordomo questions
  majordomo answer 1a2b3c4d the report of March, not of April")]
pub struct Questions {
    #[command(subcommand)]
    look: Option<Look>,
    #[command(flatten)]
    list: List,
}

/// Lists work that cannot go on without a person; shows it in full; resolves it.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Escalations {
    #[command(subcommand)]
    look: Option<LookOrResolve>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Look {
    /// List them, newest first.
    List(List),
    /// Show one in full.
    Show(Show),
}

#[derive(Debug, Subcommand)]
enum LookOrResolve {
    /// List them, newest first.
    List(List),
    /// Show one in full.
    Show(Show),
    /// Say how it goes on.
    Resolve(Resolve),
}

/// Which are listed, and how.
#[derive(Debug, Args)]
struct List {
    /// Also those that nobody waits for any more.
    #[arg(long)]
    all: bool,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    /// Print JSON: {"asks": [...], "next": id or null}.
    #[arg(long)]
    json: bool,
}

/// Which one is shown, and how.
#[derive(Debug, Args)]
struct Show {
    /// Its id, or at least 4 characters of its beginning.
    id: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Lets an action be done that waits for an approval.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  majordomo approve 1a2b3c4d
  majordomo approve 1a2b3c4d --for-task
  majordomo approve 1a2b3c4d --for 8h      and calls with these arguments for eight hours
  majordomo approve 1a2b3c4d --times 20 --matching 'to=*@example.org'
  majordomo approve 1a2b3c4d --args @changed.json")]
pub struct Approve {
    /// Its id, or at least 4 characters of its beginning.
    id: String,
    /// The same action again, in the same run, needs no further word.
    #[arg(long, conflicts_with_all = ["times", "for_s", "matching", "any", "tainted"])]
    for_task: bool,
    /// Do it with these arguments instead: all of them, as JSON, or in a file.
    #[arg(long, value_name = "JSON|@FILE",
          conflicts_with_all = ["for_task", "times", "for_s", "matching", "any", "tainted"])]
    args: Option<String>,
    #[command(flatten)]
    extent: Extent,
}

/// Refuses an action that waits for an approval.
#[derive(Debug, Args)]
pub struct Reject {
    /// Its id, or at least 4 characters of its beginning.
    id: String,
    /// Why; the agent reads it.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    reason: String,
}

/// Answers a question.
///
/// To an approval the answer is handed to the agent instead of doing it; for trouble, or at a limit, it
/// becomes the result.
#[derive(Debug, Args)]
pub struct Answer {
    /// Its id, or at least 4 characters of its beginning.
    id: String,
    /// The answer.
    #[arg(required = true)]
    text: Vec<String>,
}

/// How work goes on that cannot go on by itself.
#[derive(Debug, Args)]
struct Resolve {
    /// Its id, or at least 4 characters of its beginning.
    id: String,
    #[command(flatten)]
    word: Word,
    /// What the tool would have answered, as JSON or as plain text.
    #[arg(long, value_name = "RESULT", conflicts_with_all = ["again", "guide", "more", "give_up"])]
    result: Option<String>,
}

/// One of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Word {
    /// The effect in doubt happened.
    #[arg(long)]
    happened: bool,
    /// Do it again.
    #[arg(long)]
    again: bool,
    /// Go on, minding this.
    #[arg(long, value_name = "TEXT")]
    guide: Option<String>,
    /// Go on with as much again as there was, or with so many dollars more.
    #[arg(long, value_name = "USD", num_args = 0..=1, value_parser = words::dollars)]
    more: Option<Option<f64>>,
    /// Leave it.
    #[arg(long)]
    give_up: bool,
}

impl Approvals {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let look = self.look.unwrap_or(Look::List(self.list));
        look.tell(context, Collection::Approvals).await
    }
}

impl Questions {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let look = self.look.unwrap_or(Look::List(self.list));
        look.tell(context, Collection::Questions).await
    }
}

impl Escalations {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let look = match self.look {
            None => Look::List(self.list),
            Some(LookOrResolve::List(list)) => Look::List(list),
            Some(LookOrResolve::Show(show)) => Look::Show(show),
            Some(LookOrResolve::Resolve(resolve)) => {
                let which = &[Collection::Escalations];
                return decide(context, which, &resolve.id, &resolve.decision()).await;
            }
        };
        look.tell(context, Collection::Escalations).await
    }
}

impl Approve {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        if self.extent.is_said() {
            return self.permit(context).await;
        }
        let decision = match self.args.as_deref().map(args_of).transpose()? {
            Some(args) => Decision::Edit { args },
            None => Decision::Approve {
                for_task: self.for_task,
            },
        };
        decide(context, &[Collection::Approvals], &self.id, &decision).await
    }
}

impl Approve {
    /// Gives a permit, of which this call is the first use.
    async fn permit(self, context: &Context) -> anyhow::Result<Exit> {
        let access = Access::to_look(context).await?;
        let given = async {
            let (_, found) = pick(&access, &[Collection::Approvals], &self.id).await?;
            permits::give_from(context, &access, (found.id, self.extent)).await
        };
        let given = given.await;
        let live = matches!(access, Access::Live(_));
        access.close().await;
        eprintln!("{}", words::plain(&permits::given(&given?)));
        goes_on(live);
        Ok(Exit::Done)
    }
}

impl Reject {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let decision = Decision::Reject {
            reason: self.reason,
        };
        decide(context, &[Collection::Approvals], &self.id, &decision).await
    }
}

impl Answer {
    /// Runs the command.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let decision = Decision::Reply {
            text: self.text.join(" "),
        };
        let any = [
            Collection::Questions,
            Collection::Approvals,
            Collection::Escalations,
        ];
        decide(context, &any, &self.id, &decision).await
    }
}

impl Resolve {
    fn decision(&self) -> Decision {
        let json =
            |text: &String| serde_json::from_str(text).unwrap_or_else(|_| text.clone().into());
        if let Some(usd) = self.word.more {
            let usd = usd.map(Usd::from_dollars);
            return Decision::More { usd };
        }
        match (&self.word.guide, self.word.happened, self.word.again) {
            (Some(text), ..) => Decision::Guide { text: text.clone() },
            (_, true, _) => Decision::Happened {
                result: self.result.as_ref().map(json).unwrap_or_default(),
            },
            (_, _, true) => Decision::Again,
            _ => Decision::GiveUp,
        }
    }
}

/// Arguments as they were given: JSON, or a file that holds it.
fn args_of(given: &str) -> anyhow::Result<Value> {
    let text = match given.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).with_context(|| path.to_owned())?,
        None => given.to_owned(),
    };
    let read = serde_json::from_str(&text);
    Ok(read.map_err(|error| Fault::usage(format!("--args is no JSON: {error}")))?)
}

impl Look {
    async fn tell(self, context: &Context, which: Collection) -> anyhow::Result<Exit> {
        let access = Access::to_look(context).await?;
        let told = match self {
            Look::List(list) => list.tell(&access, which).await,
            Look::Show(show) => show.tell(&access, which).await,
        };
        access.close().await;
        let told = told?;
        let mut out = std::io::stdout().lock();
        let told = match out.is_terminal() {
            true => words::plain(&told),
            false => told.into(),
        };
        // A pager that was closed early wants no more.
        match out.write_all(told.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(Exit::Done),
        }
    }
}

impl List {
    async fn tell(&self, access: &Access, which: Collection) -> anyhow::Result<String> {
        let filter = AskFilter {
            open: !self.all,
            limit: self.limit,
            ..AskFilter::default()
        };
        let page = access.asks(which, &filter).await?;
        match self.json {
            true => Ok(serde_json::to_string_pretty(&page)? + "\n"),
            false => Ok(text::table(which, &page, shared::clock::now().0)),
        }
    }
}

impl Show {
    async fn tell(&self, access: &Access, which: Collection) -> anyhow::Result<String> {
        let (which, found) = pick(access, &[which], &self.id).await?;
        let view = access.asked(which, found.id).await?;
        let view = view.ok_or_else(|| gone(which, &self.id))?;
        match self.json {
            true => Ok(serde_json::to_string_pretty(&view)? + "\n"),
            false => Ok(text::full(&view, shared::clock::now().0)),
        }
    }
}

async fn decide(
    context: &Context,
    among: &[Collection],
    typed: &str,
    decision: &Decision,
) -> anyhow::Result<Exit> {
    let access = Access::to_look(context).await?;
    let decided = async {
        let (which, found) = pick(&access, among, typed).await?;
        access.decide(which, found.id, decision).await
    };
    let decided = decided.await;
    let live = matches!(access, Access::Live(_));
    access.close().await;
    let view = decided?;
    eprintln!("{}", words::plain(&text::decided(&view)));
    goes_on(live);
    Ok(Exit::Done)
}

/// Says when what was decided has its effect, where nothing runs.
fn goes_on(live: bool) {
    if !live {
        eprintln!("the task goes on at the next `majordomo serve` or `majordomo ask`");
    }
}

/// The one that is meant, and where it is listed.
async fn pick(
    access: &Access,
    among: &[Collection],
    typed: &str,
) -> anyhow::Result<(Collection, AskView)> {
    let part = typed.to_ascii_lowercase();
    if part.len() < PREFIX || !part.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
        let what =
            format!("{typed:?} is no id: it takes at least {PREFIX} of its first characters");
        return Err(Fault::usage(what).help(lists(among)).into());
    }
    let mut found = Vec::new();
    for which in among {
        let like = access.asks_like(*which, &part).await?;
        found.extend(like.into_iter().map(|view| (*which, view)));
    }
    match found.len() {
        0 => Err(gone(among[0], typed).into()),
        1 => Ok(found.remove(0)),
        _ => {
            let what = format!("several are meant by {typed}");
            let ids = found.iter().take(5).map(|(_, view)| view.id.to_string());
            let help = format!("one of {}", ids.collect::<Vec<_>>().join(", "));
            Err(Fault::usage(what).help(help).into())
        }
    }
}

fn gone(which: Collection, typed: &str) -> Fault {
    Fault::failed(format!("there is no {} {typed}", which.one())).help(lists(&[which]))
}

fn lists(among: &[Collection]) -> String {
    let commands = among
        .iter()
        .map(|which| format!("`majordomo {}`", which.as_str()));
    format!(
        "{} shows the ids",
        commands.collect::<Vec<_>>().join(" or ")
    )
}
