//! Words to the house itself: commands, and what is answered to them.

use shared::budget::Account;
use shared::config::Role;
use shared::id::AgentName;
use shared::store::{Conversation, Halted};
use shared::task::Task;

use super::{Letter, Pending, Reception};
use crate::budget::{self, Line, NotSet};
use crate::channels::command::{Command, MENU};
use crate::channels::text::in_one_line;
use crate::channels::{Says, Sender};
use crate::halt::{self, Target};
use crate::people::Known;

/// Characters of a reason that are kept.
const REASON: usize = 256;

/// What is said of a message that was stopped before it was begun.
const STOPPED: &str = "⏹ Not begun: it was stopped.";

impl Reception {
    pub(super) async fn command(
        &self,
        letter: &Letter,
        (known, from): (&Known, &Sender),
        command: Command,
    ) -> Result<(), Pending> {
        let changes = matches!(command, Command::New | Command::Stop | Command::Agent(_));
        let text = match command {
            _ if changes && !known.may(Role::Member) => {
                "Your roles do not let you change anything here.".into()
            }
            Command::Help => self.help(known),
            Command::New => {
                let settled = Conversation {
                    since: self.store().now(),
                    ..self.conversation(letter).await?
                };
                self.settle(letter, settled).await?;
                "A new conversation begins: what was said before does not count any more.".into()
            }
            Command::Status => self.status(letter).await?,
            Command::Stop => self.stop(letter, known, from).await?,
            Command::StopAll(_) | Command::ResumeAll if !known.may(Role::Admin) => {
                "Only an admin may stop everything, or let it go on.".into()
            }
            Command::StopAll(reason) => self.stop_all(known, &reason).await?,
            Command::ResumeAll => self.resume_all(known).await?,
            Command::Budget(Some(_)) if !known.may(Role::Admin) => {
                "Only an admin may set limits.".into()
            }
            Command::Budget(Some((account, limit))) => {
                self.set_budget(known, (&account, &limit)).await?
            }
            Command::Budget(None) => self.budgets(known).await?,
            Command::Agents => {
                let line = |(name, what): &(AgentName, String)| format!("- **{name}**: {what}");
                let lines: Vec<String> = self.house.agents.iter().map(line).collect();
                let how = self.channel.command("agent");
                let how =
                    format!("`{how} NAME` has one of them answer here, `{how}` leaves it to me.");
                format!("{}\n\n{how}", lines.join("\n"))
            }
            Command::Agent(name) => self.choose(letter, name).await?,
            Command::Unknown(name) => {
                let spelled = |name: &str| self.channel.command(name);
                format!(
                    "There is no command `{}`. `{}` lists those that there are.",
                    spelled(&name),
                    spelled("help")
                )
            }
        };
        self.say(letter, &letter.mail.key, text).await
    }

    fn help(&self, known: &Known) -> String {
        let commands = MENU
            .iter()
            .map(|(name, what)| format!("- {}: {what}", self.channel.command(name)));
        let commands: Vec<String> = commands.collect();
        format!(
            "Hello {}. Write what you want to have done or to know, and I have it done: one of the \
             agents works on it, you see here how it goes, and the answer comes to this place.\n\n{}",
            known.principal,
            commands.join("\n")
        )
    }

    async fn status(&self, letter: &Letter) -> Result<String, Pending> {
        let unfinished = self.unfinished(letter).await?;
        if unfinished.is_empty() {
            return Ok("Nothing is going on here.".into());
        }
        let line = |task: &Task| {
            let asked: String = task.request.text.chars().take(80).collect();
            let asked = in_one_line(&asked);
            let state = task.state.as_str().replace('_', " ");
            format!(
                "- **{state}**: {asked}\n  `{}`, {} so far",
                task.id, task.usage.usd
            )
        };
        let lines: Vec<String> = unfinished.iter().map(line).collect();
        Ok(lines.join("\n"))
    }

    /// Ends what is worked on and what waits, as far as it was asked for by whoever says so; an admin's
    /// word ends all of it.
    async fn stop(&self, letter: &Letter, known: &Known, from: &Sender) -> Result<String, Pending> {
        let is_admin = known.may(Role::Admin);
        let (mut stopped, mut waiting, mut others) = (0, 0, 0);
        // What waits for its turn first, or it would begin when its turn comes.
        for before in self.open_in(letter).await? {
            let says = &before.says;
            let is_work = matches!(&says.says, Says::Words(text) if Command::parse(text).is_none());
            if before.mail.seq >= letter.mail.seq || !is_work {
                continue;
            }
            let is_theirs = says
                .from
                .as_ref()
                .is_some_and(|author| author.id == from.id);
            match is_theirs || is_admin {
                true => waiting += i32::from(self.discard(&before, STOPPED).await?),
                false => others += 1,
            }
        }
        for task in self.unfinished(letter).await? {
            if task.principal != known.principal && !is_admin {
                others += 1;
                continue;
            }
            let reason = format!("{} stopped it in {}", known.principal, self.channel.name());
            stopped += i32::from(
                self.house
                    .desk
                    .cancel_by(task.id, &reason, &known.principal)
                    .await?,
            );
        }
        Ok(end_of_stop(stopped, waiting, others))
    }

    async fn stop_all(&self, known: &Known, reason: &str) -> Result<String, Pending> {
        let (desk, all) = (&self.house.desk, Target::Work(Halted::All));
        let reason: String = reason.chars().take(REASON).collect();
        Ok(match desk.stop(&all, &reason, &known.principal).await? {
            true => "Everything stands still. An admin lets it go on by `/resume all`.".into(),
            false => "Everything stood still before.".into(),
        })
    }

    async fn resume_all(&self, known: &Known) -> Result<String, Pending> {
        let (desk, all) = (&self.house.desk, Target::Work(Halted::All));
        let lifted = desk.go_on(&all, &known.principal).await?;
        Ok(match (self.house.intake.halted(), lifted) {
            (Some(halt), _) => format!("Still stopped: {}.", halt::in_words(&halt)),
            (None, true) => "Everything goes on where it stood.".into(),
            (None, false) => "Everything goes on: it was not stopped.".into(),
        })
    }

    /// How limits stand: all of them for an admin, and for others their own.
    async fn budgets(&self, known: &Known) -> Result<String, Pending> {
        let desk = &self.house.desk;
        let own = Account::User(known.principal.clone());
        let lines = match known.may(Role::Admin) {
            true => budget::lines(&*desk.store, &desk.tenant).await?,
            false => budget::lines_of_one(&*desk.store, &desk.tenant, &own).await?,
        };
        if lines.is_empty() {
            return Ok("There is no limit of your own here.".into());
        }
        Ok(lines.iter().map(told).collect::<Vec<_>>().join("\n"))
    }

    async fn set_budget(&self, known: &Known, words: (&str, &str)) -> Result<String, Pending> {
        let desk = &self.house.desk;
        match budget::set(&*desk.store, &desk.tenant, words, &known.principal).await {
            Ok(which) => Ok(format!(
                "The limit of {} is set. It holds from the next call of a model or a tool on.",
                in_one_line(&which.account.to_string())
            )),
            Err(NotSet::Store(error)) => Err(error.into()),
            Err(error) => Ok(format!(
                "Nothing was set: {}.",
                in_one_line(&error.to_string())
            )),
        }
    }

    async fn choose(&self, letter: &Letter, name: Option<String>) -> Result<String, Pending> {
        let agent = match &name {
            Some(name) => {
                let known = self
                    .house
                    .agents
                    .iter()
                    .find(|(agent, _)| agent.as_str() == name);
                let Some((agent, _)) = known else {
                    let agents = self.channel.command("agents");
                    return Ok(format!(
                        "There is no agent `{name}`. `{agents}` lists them."
                    ));
                };
                Some(agent.clone())
            }
            None => None,
        };
        let settled = Conversation {
            agent,
            ..self.conversation(letter).await?
        };
        self.settle(letter, settled).await?;
        Ok(match name {
            Some(name) => format!("From now on **{name}** answers here."),
            None => "From now on whoever fits answers here.".into(),
        })
    }
}

/// What is answered to a stop.
fn end_of_stop(stopped: i32, waiting: i32, others: i32) -> String {
    let done = match (stopped, waiting) {
        (0, 0) if others == 0 => return "There is nothing to stop here.".into(),
        (0, 0) => None,
        (tasks, 0) => Some(format!("Stopped: {tasks}.")),
        (tasks, waiting) => Some(format!("Stopped: {tasks}; not begun any more: {waiting}.")),
    };
    let left = (others > 0).then(|| {
        format!("Asked for by others, and left alone: {others}. They can stop it, or an admin.")
    });
    Vec::from_iter(done.into_iter().chain(left)).join(" ")
}

/// A limit in a line: `- **user:ada** a day: $4.00 of $5.00 (80 %)`.
fn told(line: &Line) -> String {
    let unit = line.which.unit;
    let time = line.which.period.in_words();
    let (account, spent) = (line.which.account.to_string(), unit.show(line.spent));
    let (account, of) = (
        in_one_line(&account),
        line.limit.map(|limit| unit.show(limit)),
    );
    let of = match (of, line.percent()) {
        (Some(limit), Some(percent)) => format!(" of {limit} ({percent} %)"),
        _ => ", without a limit".into(),
    };
    let held = match line.held {
        0 => String::new(),
        held => format!(", {} held for what is under way", unit.show(held)),
    };
    let raised = line.raises.iter().map(|raise| {
        let (more, by) = (unit.show(raise.amount), in_one_line(raise.by.as_str()));
        format!(", {more} of it added by {by}")
    });
    let raised: String = raised.collect();
    format!("- **{account}** {time}: {spent}{of}{held}{raised}")
}
