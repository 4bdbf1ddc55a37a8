//! `majordomo ask`: one task from its words to its answer. Progress goes to stderr, the answer alone
//! to stdout. The task is durable from the start: whatever ends this process, it can go on.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use shared::ask::AskState;
use shared::event::Recorded;
use shared::id::{AskId, TaskId};
use shared::task::TaskState;

use super::access::{Access, Watch};
use super::asks::{self, inline, inline::Keyboard};
use super::context::Context;
use super::exit::{Exit, Fault};
use super::progress::{Progress, Rest};
use super::signals::Signals;
use super::{story, words};
use crate::app::GRACE;
use crate::asks::Collection;
use crate::equip::ModelCard;
use crate::view::TaskView;
use crate::wire::{AskView, BudgetOrder, FileOrder, TaskOrder};

/// How often the line that says what goes on is drawn anew.
const TICK: Duration = Duration::from_millis(120);

/// Has a task done and prints its answer.
///
/// The answer goes to stdout, everything else to stderr. Agents read the current folder unless
/// --dir or the configuration names another.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  majordomo ask \"Which exit codes are there?\" --dir docs
  git diff | majordomo ask \"Write a commit message for this diff:\" -
  majordomo ask --file plan.png --file notes.pdf \"Does the plan say what the notes say?\"
  majordomo ask --agent writer --budget-usd 0.05 --json \"A haiku about queues\"")]
pub struct Ask {
    /// What is asked. `-`, or nothing where stdin is piped, reads it from stdin.
    text: Vec<String>,
    /// The folder that agents may read.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A file that comes with it: a document, whose text becomes part of the task, or a picture. May be
    /// given several times.
    #[arg(long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// The agent that must do it, instead of the one the supervisor would choose.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// The conversation that it belongs to.
    #[arg(long, value_name = "NAME")]
    thread: Option<String>,
    /// The most that it may cost, in dollars; never more than the configuration allows.
    #[arg(long, value_name = "USD", value_parser = words::dollars)]
    budget_usd: Option<f64>,
    /// Print the whole task as JSON instead of the answer.
    #[arg(long)]
    json: bool,
    /// No progress, only the answer, what went wrong, and whether unfinished work is taken up.
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the command.
pub async fn run(context: &Context, ask: Ask) -> anyhow::Result<Exit> {
    let text = text_of(&ask.text, std::io::stdin().is_terminal(), || {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    })?;
    let here = std::env::current_dir().context("the current folder")?;
    let dir = ask.dir.as_ref().map(|dir| here.join(dir));
    let material = dir
        .clone()
        .or(context.configured_material())
        .unwrap_or_else(|| here.clone());
    context.keep_apart(&material)?;

    let files = ask.files.iter().map(|path| file_of(path));
    let files = files.collect::<Result<Vec<_>, _>>()?;

    let mut signals = Signals::new()?;
    let access = tokio::select! {
        access = Access::to_work(context, Some(here)) => access?,
        () = signals.next() => return Ok(Exit::Interrupted),
    };
    if let Access::Live(client) = &access {
        context.agree_with(&client.instance)?;
    }
    if !ask.quiet {
        announce(&access);
    }
    // Told also where little is to be said: this work was not asked for by this command.
    if let Access::Own(app) = &access
        && app.resumed > 0
    {
        eprintln!("resuming {}", words::count(app.resumed, "unfinished run"));
    }
    // An instance knows nothing of this command's folder; its own configuration goes before it.
    let dir = match &access {
        Access::Live(_) if context.configured_material().is_none() => Some(material),
        _ => dir,
    };
    let order = TaskOrder {
        text,
        agent: ask.agent.clone(),
        thread: ask.thread.clone(),
        budget: ask.budget_usd.map(|usd| BudgetOrder {
            usd: Some(usd),
            tokens: None,
        }),
        dir: dir.map(in_words).transpose()?,
        files,
        ..TaskOrder::default()
    };
    let ended = follow(&access, order, &ask, &mut signals).await;
    let live = matches!(access, Access::Live(_));
    let closed = async {
        tokio::select! {
            () = access.close() => {}
            () = signals.next() => {}
        }
    };
    // The answer first: what else goes on here may take its time to end.
    let exit = match ended {
        Ok(Some(view)) => show(&view, &ask, live).map(|()| {
            let state = TaskState::parse(&view.state).unwrap_or(TaskState::Failed);
            Exit::of_task(state)
        }),
        Ok(None) => Ok(Exit::Interrupted),
        Err(error) => Err(error),
    };
    closed.await;
    exit
}

/// A file as an order holds it.
fn file_of(path: &Path) -> Result<FileOrder, Fault> {
    let shown = path.display();
    let bytes = std::fs::read(path)
        .map_err(|error| Fault::usage(format!("--file {shown} cannot be read: {error}")))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(FileOrder::new(&name, &bytes))
}

/// A folder's path as an order holds it.
fn in_words(folder: PathBuf) -> Result<String, Fault> {
    let text = folder.into_os_string().into_string();
    text.map_err(|path| Fault::usage(format!("{} is not valid UTF-8", path.display())))
}

/// The task's words: from the command line, from stdin, or both where `-` stands among them.
fn text_of(
    words: &[String],
    stdin_is_terminal: bool,
    read: impl FnOnce() -> std::io::Result<String>,
) -> anyhow::Result<String> {
    let (dashes, words): (Vec<&String>, Vec<&String>) = words.iter().partition(|word| *word == "-");
    let mut text = words
        .iter()
        .map(|word| word.as_str())
        .collect::<Vec<_>>()
        .join(" ");
    if !dashes.is_empty() || (text.is_empty() && !stdin_is_terminal) {
        let piped = read().context("stdin cannot be read as text")?;
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(piped.trim_end());
    }
    if text.trim().is_empty() {
        let fault = Fault::usage("there is nothing to ask");
        return Err(fault
            .help("majordomo ask \"What is in this folder?\"")
            .into());
    }
    Ok(text)
}

/// Says who works, and with which models.
fn announce(access: &Access) {
    match access {
        Access::Live(client) => {
            let instance = &client.instance;
            eprintln!(
                "asking the running instance at {} (process {})",
                instance.url, instance.pid
            );
            for line in models(&instance.models) {
                eprintln!("{line}");
            }
        }
        Access::Own(app) => {
            for line in models(&app.models) {
                eprintln!("{line}");
            }
        }
        Access::Store(_) => {}
    }
}

/// What the models are, and what the offline one is not.
pub(super) fn models(models: &[ModelCard]) -> Vec<String> {
    let mut lines = Vec::new();
    for card in models {
        lines.push(format!("model {}: {}", card.name, card.description));
        if let Some(variable) = &card.found_by {
            lines.push(format!(
                "{variable} was found in the environment and is used"
            ));
        }
    }
    if models.iter().any(|card| card.offline) {
        lines.push(
            "the offline model follows rules: it searches and quotes, it does not understand. For a \
             real one set OPENAI_API_KEY, or run `majordomo init` and edit [models.default]"
                .to_owned(),
        );
    }
    lines
}

/// Hands the task in and watches it to its rest. None where a signal came first.
async fn follow(
    access: &Access,
    order: TaskOrder,
    ask: &Ask,
    signals: &mut Signals,
) -> anyhow::Result<Option<TaskView>> {
    let id = tokio::select! {
        id = access.submit(order) => id?,
        () = signals.next() => return Ok(None),
    };
    let screen = Screen::new(ask.quiet);
    screen.print(&format!("task {id}"));
    let mut watcher = Watcher {
        access,
        id,
        events: access.watch(id),
        progress: Progress::default(),
        screen,
        keyboard: Keyboard::find().filter(|_| !ask.quiet),
    };
    let watched = tokio::select! {
        view = watcher.watch() => Some(view),
        () = signals.next() => None,
    };
    watcher.screen.clear();
    if watched.is_none() {
        eprintln!("{}", interrupted(access, id));
    }
    watched.transpose()
}

/// What becomes of a task whose watcher leaves.
fn interrupted(access: &Access, id: TaskId) -> String {
    let id = words::short(id);
    let next = match access {
        Access::Live(_) => "the running instance goes on with it".to_owned(),
        _ => format!(
            "it goes on at the next `majordomo serve` or `majordomo ask`\n  \
             the step in flight gets {} s to end; Ctrl-C once more ends at once",
            GRACE.as_secs()
        ),
    };
    format!(
        "interrupted. Task {id} is safe: {next}\n  majordomo tasks show {id}      what there is so far\n  \
         majordomo tasks cancel {id}    give it up"
    )
}

/// Whoever watches a task, and answers what it asks where there is a terminal to do so.
struct Watcher<'a> {
    access: &'a Access,
    id: TaskId,
    events: Watch,
    progress: Progress,
    screen: Screen,
    keyboard: Option<Keyboard>,
}

/// What came of asking somebody at the terminal.
enum Put {
    /// It is decided.
    Decided,
    /// Nobody will decide it here.
    Left,
    /// The task came to rest meanwhile.
    Rest,
}

impl Watcher<'_> {
    /// The task when it has ended, was paused, or waits for somebody who is not here.
    async fn watch(&mut self) -> anyhow::Result<TaskView> {
        loop {
            let Rest(state) = self.next_rest().await?;
            if state != TaskState::AwaitingHuman {
                return self.task().await;
            }
            match self.ask_here().await? {
                // What it waited for was said, here or elsewhere: it goes on.
                Put::Decided => {}
                Put::Left | Put::Rest => return self.task().await,
            }
        }
    }

    async fn next_rest(&mut self) -> anyhow::Result<Rest> {
        loop {
            let event = self.events.next().await?;
            if let Some(line) = self.progress.line(&event) {
                self.screen.print(&line);
            }
            self.screen.show(self.progress.now());
            if let Some(rest) = Progress::rest(&event.event) {
                return Ok(rest);
            }
        }
    }

    async fn task(&self) -> anyhow::Result<TaskView> {
        let view = self.access.task(self.id).await?;
        Ok(view.ok_or_else(|| Fault::failed(format!("task {} is gone", self.id)))?)
    }

    /// Puts one thing after the other that is asked to whoever sits at the terminal, the oldest first.
    async fn ask_here(&mut self) -> anyhow::Result<Put> {
        loop {
            let open = self.task().await?.asks;
            let Some(oldest) = open.last() else {
                self.screen.resume();
                return Ok(Put::Decided);
            };
            let which = Collection::of(oldest.kind);
            let Some(mut keyboard) = self.keyboard.take() else {
                return Ok(Put::Left);
            };
            self.screen.clear();
            let put = match self.access.asked(which, oldest.id).await? {
                Some(asked) => self.put(&mut keyboard, which, &asked).await?,
                None => Put::Left,
            };
            self.keyboard = Some(keyboard);
            if !matches!(put, Put::Decided) {
                return Ok(put);
            }
        }
    }

    /// Puts one of them.
    async fn put(
        &mut self,
        keyboard: &mut Keyboard,
        which: Collection,
        asked: &AskView,
    ) -> anyhow::Result<Put> {
        eprint!("\n{}\n", words::plain(&asks::text::body(asked)));
        keyboard.forget();
        loop {
            eprint!("{}", inline::prompt(asked));
            let line = tokio::select! {
                line = keyboard.line() => line,
                event = self.events.next() => {
                    match self.meanwhile(&event?, which, asked.id).await? {
                        Some(put) => return Ok(put),
                        None => continue,
                    }
                }
            };
            let Some(line) = line else {
                eprintln!();
                return Ok(Put::Left);
            };
            let Some(decision) = inline::decision(asked, &line) else {
                continue;
            };
            match self.access.decide(which, asked.id, &decision).await {
                Ok(now) => {
                    eprintln!("{}", words::plain(&asks::text::decided(&now)));
                    return Ok(Put::Decided);
                }
                Err(error) => {
                    eprintln!("{}", words::plain(&error.to_string()));
                    if Exit::of_error(&error) == Exit::Usage {
                        continue;
                    }
                    return Ok(match self.is_open(which, asked.id).await? {
                        true => Put::Left,
                        false => Put::Decided,
                    });
                }
            }
        }
    }

    /// What an event means that comes while somebody is being asked; none where they are asked still.
    async fn meanwhile(
        &mut self,
        event: &Recorded,
        which: Collection,
        id: AskId,
    ) -> anyhow::Result<Option<Put>> {
        let line = self.progress.line(event);
        let rest = Progress::rest(&event.event);
        if line.is_some() || rest.is_some() {
            eprintln!();
        }
        if let Some(line) = line {
            self.screen.print(&line);
        }
        if rest.is_some_and(|rest| rest.0 != TaskState::AwaitingHuman) {
            return Ok(Some(Put::Rest));
        }
        match self.access.asked(which, id).await? {
            Some(now) if now.state == AskState::Open => Ok(None),
            Some(now) => {
                eprintln!("{}", words::plain(&asks::text::decided(&now)));
                Ok(Some(Put::Decided))
            }
            None => Ok(Some(Put::Decided)),
        }
    }

    async fn is_open(&self, which: Collection, id: AskId) -> anyhow::Result<bool> {
        let asked = self.access.asked(which, id).await?;
        Ok(asked.is_some_and(|asked| asked.state == AskState::Open))
    }
}

/// Prints what came of it.
fn show(view: &TaskView, ask: &Ask, live: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if ask.json {
        writeln!(out, "{}", serde_json::to_string_pretty(view)?)?;
    } else if let Some(answer) = view.answer.as_ref().or(view.partial.as_ref()) {
        let answer = answer.trim_end();
        match out.is_terminal() {
            true => writeln!(out, "{}", words::plain(answer))?,
            false => writeln!(out, "{answer}")?,
        }
    }
    out.flush()?;
    drop(out);
    for line in verdict(view, live) {
        eprintln!("{}", words::plain(&line));
    }
    if !ask.quiet {
        let short = words::short(view.id);
        eprintln!("{}", story::costs(view));
        eprintln!("everything that was done: majordomo tasks show {short} --full");
    }
    Ok(())
}

/// Why there is no answer, and what can be done.
fn verdict(view: &TaskView, live: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let state = TaskState::parse(&view.state);
    match state {
        Some(TaskState::Done) => return lines,
        Some(TaskState::AwaitingHuman) => {
            lines.push("the task awaits a person".to_owned());
            lines.extend(story::how_to_resolve(view).lines().map(str::to_owned));
            if !live {
                lines.push(
                    "then it goes on at the next `majordomo serve` or `majordomo ask`".into(),
                );
            }
        }
        Some(state) => lines.push(format!("the task is {}", words::state(state))),
        None => lines.push(format!("the task is {}", view.state)),
    }
    if let Some(error) = &view.error {
        lines.push(format!("  {}", error.trim_end().replace('\n', "\n  ")));
    }
    if view.partial.is_some() {
        lines.push("what is printed above is what was reached, not the answer".into());
    }
    lines
}

/// Stderr while a task is watched: lines that stay, and on a terminal one that says what goes on.
struct Screen {
    quiet: bool,
    bar: Option<ProgressBar>,
}

impl Screen {
    fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} · {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { quiet, bar }
    }

    fn print(&self, line: &str) {
        let line = words::plain(line);
        match (&self.bar, self.quiet) {
            (_, true) => {}
            (Some(bar), _) => bar.println(&*line),
            (None, _) => eprintln!("{line}"),
        }
    }

    fn show(&self, now: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(now);
        }
    }

    /// Takes away the line that says what goes on.
    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Draws it again.
    fn resume(&mut self) {
        if self.bar.is_none() {
            *self = Self::new(self.quiet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_from_the_command_line_and_from_stdin() {
        let text = |words: &[&str], terminal: bool| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            text_of(&words, terminal, || Ok("piped\n".into())).map_err(|error| error.to_string())
        };
        assert_eq!(text(&["a", "b"], false).unwrap(), "a b");
        assert_eq!(text(&["a", "-"], true).unwrap(), "a\n\npiped");
        assert_eq!(text(&["-"], true).unwrap(), "piped");
        assert_eq!(text(&[], false).unwrap(), "piped");
        assert!(text(&[], true).unwrap_err().contains("nothing to ask"));
    }

    #[test]
    fn budgets_are_amounts() {
        assert_eq!(words::dollars("$0.25"), Ok(0.25));
        for wrong in ["0", "-1", "NaN", "inf", "x"] {
            assert!(words::dollars(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_offline_model_is_called_what_it_is() {
        let card = |description: &str, offline, found_by: Option<&str>| ModelCard {
            name: "default".into(),
            description: description.into(),
            offline,
            found_by: found_by.map(str::to_owned),
        };
        let real = card(
            "gpt-5 at https://api.openai.com",
            false,
            Some("OPENAI_API_KEY"),
        );
        assert_eq!(models(&[real]).len(), 2);
        let offline = card("offline (built-in)", true, None);
        assert!(models(&[offline])[1].contains("does not understand"));
    }

    #[test]
    fn a_task_that_awaits_a_person_says_how_to_answer() {
        let view = story::tests::transcript().task;
        insta::assert_snapshot!(verdict(&view, false).join("\n"));
    }
}
