//! `majordomo tasks`: looking at tasks, cancelling them, doing them anew, and settling what they are in
//! doubt about.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::Value;

use agents::tools::folder::{Folder, or_dot};
use shared::ask::Decision;
use shared::id::TaskId;
use shared::store::TaskFilter;
use shared::task::TaskState;

use super::access::Access;
use super::context::Context;
use super::exit::{Exit, Fault};
use super::pick::pick;
use super::{bill, story, words};
use crate::files::TaskFile;
use crate::view::TaskView;
use crate::wire::DeadView;

/// How much of a task's text a list shows.
const TEXT: usize = 60;

/// Lists, shows, cancels and resolves tasks.
#[derive(Debug, Subcommand)]
pub enum Tasks {
    /// List tasks, newest first.
    List(List),
    /// Show a task: what was asked, done and answered.
    #[command(after_help = "Examples:
  majordomo tasks show 9f3a02c1
  majordomo tasks show 9f3a02c1 --full | less
  majordomo tasks show 9f3a02c1 --cost")]
    Show(Show),
    /// List the files that a task wrote, or fetch them.
    #[command(after_help = "Examples:
  majordomo tasks files 9f3a02c1
  majordomo tasks files 9f3a02c1 --out reports")]
    Files(Files),
    /// End a task. What it has done stays done.
    Cancel {
        /// Its id, or at least 4 characters of its beginning or end.
        id: String,
    },
    /// Hold a task: what is in hand is ended, nothing new is begun.
    Pause {
        /// Its id, or at least 4 characters of its beginning or end.
        id: String,
    },
    /// Let a paused task go on where it stood.
    Resume {
        /// Its id, or at least 4 characters of its beginning or end.
        id: String,
    },
    /// Do a task once more that failed or was cancelled: a new task, the old one stays as it was.
    Retry {
        /// Its id, or at least 4 characters of its beginning or end.
        id: String,
    },
    /// Make a task that takes over what an ended one did before a step, and does the rest anew.
    #[command(after_help = "Examples:
  majordomo tasks fork 9f3a02c1 --from step/2

A STEP that the task does not have is answered with those that it has.")]
    Fork {
        /// Its id, or at least 4 characters of its beginning or end.
        id: String,
        /// The step from which on everything is done anew, as `tasks show --full` names it.
        #[arg(long, value_name = "STEP")]
        from: String,
    },
    /// List runs that cannot be run any more, with why, and what to do.
    Dead {
        /// At most so many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
        limit: u32,
        /// Print JSON: {"runs": [...]}.
        #[arg(long)]
        json: bool,
    },
    /// Say what became of a step that may or may not have happened.
    #[command(after_help = "Examples:
  majordomo tasks resolve 9f3a02c1 --happened
  majordomo tasks resolve 9f3a02c1 --step tool/2.0 --happened --result '{\"id\": 7}'
  majordomo tasks resolve 9f3a02c1 --again")]
    Resolve(Resolve),
}

/// Which tasks are listed, and how.
#[derive(Debug, Args)]
pub struct List {
    /// Only in this state.
    #[arg(long, value_parser = TaskState::ALL.map(TaskState::as_str))]
    state: Option<String>,
    /// Only of this person or token.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only of this conversation.
    #[arg(long, value_name = "NAME")]
    thread: Option<String>,
    /// Only those for which the asker chose this agent.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only with this label. May be given several times.
    #[arg(long = "metadata", value_name = "KEY=VALUE", value_parser = label)]
    metadata: Vec<(String, String)>,
    /// Only older than this one.
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    /// Print JSON: {"tasks": [...], "next": id or null}.
    #[arg(long)]
    json: bool,
}

/// Which task is shown, and how.
#[derive(Debug, Args)]
pub struct Show {
    /// Its id, or at least 4 characters of its beginning or end.
    id: String,
    /// The whole story from the journal: every input and output, attempt, cost and decision.
    #[arg(long)]
    full: bool,
    /// Explain what it cost, step by step.
    #[arg(long)]
    cost: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Whose files, and what becomes of them.
#[derive(Debug, Args)]
pub struct Files {
    /// The task's id, or at least 4 characters of its beginning or end.
    id: String,
    /// Write them below this folder, which is made where it is missing. No file that is there is
    /// replaced.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON: {"files": [...]}.
    #[arg(long, conflicts_with = "out")]
    json: bool,
}

/// What became of a step in doubt.
#[derive(Debug, Args)]
pub struct Resolve {
    /// The task's id, or at least 4 characters of its beginning or end.
    id: String,
    /// The step; not needed where only one waits.
    #[arg(long, value_name = "STEP")]
    step: Option<String>,
    #[command(flatten)]
    decision: Word,
    /// What the tool would have answered, as JSON or as plain text.
    #[arg(long, value_name = "RESULT", conflicts_with_all = ["again", "give_up"])]
    result: Option<String>,
}

/// One of three.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Word {
    /// It happened.
    #[arg(long)]
    happened: bool,
    /// It did not happen: do it again.
    #[arg(long)]
    again: bool,
    /// Leave it.
    #[arg(long)]
    give_up: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("is not KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Runs the command.
pub async fn run(context: &Context, tasks: Tasks) -> anyhow::Result<Exit> {
    let access = Access::to_look(context).await?;
    let told = match tasks {
        Tasks::List(list) => list.tell(&access).await,
        Tasks::Show(show) => show.tell(&access).await,
        Tasks::Files(files) => files.tell(&access).await,
        Tasks::Cancel { id } => cancel(&access, &id).await,
        Tasks::Pause { id } => pause(&access, &id).await,
        Tasks::Resume { id } => resume(&access, &id).await,
        Tasks::Retry { id } => retry(&access, &id).await,
        Tasks::Fork { id, from } => fork(&access, &id, &from).await,
        Tasks::Dead { limit, json } => dead(&access, limit, json).await,
        Tasks::Resolve(resolve) => resolve.tell(&access).await,
    };
    access.close().await;
    // A pager that was closed early wants no more.
    let mut out = std::io::stdout().lock();
    let told = told?;
    let told = match out.is_terminal() {
        true => words::plain(&told),
        false => told.into(),
    };
    match out.write_all(told.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Exit::Done),
    }
}

impl List {
    async fn tell(&self, access: &Access) -> anyhow::Result<String> {
        let mut filter = self.filter();
        if let Some(before) = &self.before {
            filter.before = Some(pick(access, before).await?);
        }
        let tasks = access.tasks(&filter).await?;
        let full = tasks.len() == self.limit as usize;
        let next = tasks.last().map(|task| task.id).filter(|_| full);
        if self.json {
            let page = serde_json::json!({"tasks": tasks, "next": next});
            return Ok(format!("{page:#}\n"));
        }
        Ok(table(&tasks, next, shared::clock::now().0))
    }

    fn filter(&self) -> TaskFilter {
        TaskFilter {
            principals: self.user.as_ref().map(|user| vec![user.into()]),
            thread: self.thread.clone(),
            agent: self.agent.as_ref().map(Into::into),
            state: self.state.as_deref().and_then(TaskState::parse),
            metadata: self.metadata.iter().cloned().collect::<BTreeMap<_, _>>(),
            limit: self.limit,
            ..TaskFilter::default()
        }
    }
}

fn table(tasks: &[TaskView], next: Option<TaskId>, now_ms: i64) -> String {
    if tasks.is_empty() {
        return "no tasks\n".into();
    }
    let row = |task: &TaskView| {
        vec![
            words::short(task.id),
            story::state(task),
            words::age(now_ms - task.created_at_ms),
            words::usd(task.cost.usd),
            words::cut(&words::line(&task.text), TEXT),
        ]
    };
    let rows: Vec<Vec<String>> = tasks.iter().map(row).collect();
    let mut text = words::table(&["id", "state", "age", "cost", "text"], &rows, &[2, 3]);
    if tasks.iter().any(|task| task.halted) {
        text.push_str(&format!("{}\n", story::HALTED));
    }
    if let Some(next) = next {
        text.push_str(&format!("more: majordomo tasks list --before {next}\n"));
    }
    text
}

impl Show {
    async fn tell(&self, access: &Access) -> anyhow::Result<String> {
        let id = pick(access, &self.id).await?;
        let now = shared::clock::now().0;
        if !self.full && !self.cost {
            let task = access.task(id).await?;
            let task = task.ok_or_else(|| Fault::failed(format!("there is no task {id}")))?;
            return match self.json {
                true => Ok(serde_json::to_string_pretty(&task)? + "\n"),
                false => Ok(story::summary(&task, now)),
            };
        }
        let transcript = access.transcript(id).await?;
        if self.json {
            return Ok(serde_json::to_string_pretty(&transcript)? + "\n");
        }
        let mut text = String::new();
        if self.full {
            text.push_str(&story::full(&transcript, now));
        }
        if self.full && self.cost {
            text.push('\n');
        }
        if self.cost {
            text.push_str(&bill::of(&transcript));
        }
        Ok(text)
    }
}

impl Files {
    async fn tell(&self, access: &Access) -> anyhow::Result<String> {
        let id = pick(access, &self.id).await?;
        let task = access.task(id).await?;
        let task = task.ok_or_else(|| Fault::failed(format!("there is no task {id}")))?;
        if self.json {
            let page = serde_json::json!({ "files": task.files });
            return Ok(format!("{page:#}\n"));
        }
        match &self.out {
            Some(out) => fetch(access, &task, out).await,
            None => Ok(inventory(&task.files)),
        }
    }
}

fn inventory(files: &[TaskFile]) -> String {
    if files.is_empty() {
        return "no files\n".into();
    }
    let row = |file: &TaskFile| {
        vec![
            words::name(&file.name).into_owned(),
            file.mime.clone(),
            file.bytes.to_string(),
            file.hash.short(),
        ]
    };
    let rows: Vec<Vec<String>> = files.iter().map(row).collect();
    words::table(&["name", "type", "bytes", "sha256"], &rows, &[2])
}

/// Writes a task's files below a folder. Their names were chosen by an agent, so none leads out of it.
async fn fetch(access: &Access, task: &TaskView, out: &Path) -> anyhow::Result<String> {
    let folder = Folder::create(out).map_err(|failure| Fault::failed(failure.message))?;
    let mut told = String::new();
    for file in &task.files {
        let path = folder
            .relative(&file.name)
            .map_err(|failure| Fault::failed(failure.message))?;
        let shown = out.join(&path);
        if folder.dir().symlink_metadata(&path).is_ok() {
            let fault = Fault::failed(format!("{} is there already", shown.display()));
            return Err(fault.help("choose another folder with --out").into());
        }
        let bytes = access.file(task.id, &file.name).await?;
        let bytes =
            bytes.ok_or_else(|| Fault::failed(format!("{} is not kept any more", file.name)))?;
        let wrote = || {
            let above = path.parent().unwrap_or(Path::new(""));
            folder.dir().create_dir_all(or_dot(above))?;
            folder.dir().write(&path, &bytes)
        };
        wrote().with_context(|| shown.display().to_string())?;
        told.push_str(&fetched(out, &path));
    }
    Ok(told)
}

/// Tells of a file that was fetched. For eyes: a terminal may stand behind whatever this is piped to.
fn fetched(out: &Path, path: &Path) -> String {
    let shown = out.join(path);
    format!("{}\n", words::name(&shown.to_string_lossy()))
}

async fn cancel(access: &Access, id: &str) -> anyhow::Result<String> {
    if let Some(id) = unfinished(access, id).await? {
        access.cancel(id).await?;
        eprintln!("task {} is cancelled", words::short(id));
    }
    Ok(String::new())
}

async fn pause(access: &Access, id: &str) -> anyhow::Result<String> {
    if let Some(id) = unfinished(access, id).await? {
        access.pause(id).await?;
        let short = words::short(id);
        eprintln!("task {short} is paused; go on:  majordomo tasks resume {short}");
    }
    Ok(String::new())
}

async fn resume(access: &Access, id: &str) -> anyhow::Result<String> {
    if let Some(id) = unfinished(access, id).await? {
        access.resume(id).await?;
        eprintln!("task {} goes on", words::short(id));
        if !matches!(access, Access::Live(_)) {
            eprintln!("that is: at the next `majordomo serve` or `majordomo ask`");
        }
    }
    Ok(String::new())
}

/// The task of this id, where it has not ended; says so where it has.
async fn unfinished(access: &Access, id: &str) -> anyhow::Result<Option<TaskId>> {
    let id = pick(access, id).await?;
    let found = access.task(id).await?;
    let found = found.ok_or_else(|| Fault::failed(format!("there is no task {id}")))?;
    if TaskState::parse(&found.state).is_some_and(TaskState::is_final) {
        let short = words::short(id);
        eprintln!("task {short} had ended before: {}", found.state);
        return Ok(None);
    }
    Ok(Some(id))
}

async fn retry(access: &Access, id: &str) -> anyhow::Result<String> {
    let id = pick(access, id).await?;
    let made = access.retry(id).await?;
    eprintln!(
        "task {} does task {} anew",
        words::short(made),
        words::short(id)
    );
    Ok(renewed(access, made))
}

async fn fork(access: &Access, id: &str, from: &str) -> anyhow::Result<String> {
    let id = pick(access, id).await?;
    let made = access.fork(id, from).await?;
    eprintln!(
        "task {} goes on as task {} did up to step {from}",
        words::short(made),
        words::short(id)
    );
    Ok(renewed(access, made))
}

/// The new task's id, for scripts; people are told when it goes on.
fn renewed(access: &Access, made: TaskId) -> String {
    if !matches!(access, Access::Live(_)) {
        eprintln!("it begins at the next `majordomo serve` or `majordomo ask`");
    }
    format!("{made}\n")
}

async fn dead(access: &Access, limit: u32, json: bool) -> anyhow::Result<String> {
    let runs = access.dead(limit).await?;
    if json {
        let page = serde_json::json!({ "runs": runs });
        return Ok(format!("{page:#}\n"));
    }
    Ok(graveyard(&runs, shared::clock::now().0))
}

fn graveyard(runs: &[DeadView], now_ms: i64) -> String {
    if runs.is_empty() {
        return "no dead runs\n".into();
    }
    let mut text = String::new();
    for dead in runs {
        let task = words::short(dead.task);
        text.push_str(&format!(
            "task {task}: {} {} ago{}: {}\n  do it anew:     majordomo tasks retry {task}\n",
            dead.agent.as_deref().unwrap_or("supervisor"),
            words::age(now_ms - dead.at_ms),
            dead.step
                .as_ref()
                .map(|step| format!(" at step {step}"))
                .unwrap_or_default(),
            words::line(&dead.why),
        ));
        text.push_str(&format!(
            "  look closer:    majordomo tasks show {task} --full\n"
        ));
    }
    text.push_str("a part of it can be kept: majordomo tasks fork ID --from STEP\n");
    text
}

impl Resolve {
    async fn tell(&self, access: &Access) -> anyhow::Result<String> {
        let id = pick(access, &self.id).await?;
        let step = match &self.step {
            Some(step) => step.clone(),
            None => only_doubt(access, id).await?,
        };
        access.resolve(id, &step, &self.resolution()).await?;
        eprintln!("step {step} of task {} is resolved", words::short(id));
        if !matches!(access, Access::Live(_)) {
            eprintln!("the task goes on at the next `majordomo serve` or `majordomo ask`");
        }
        Ok(String::new())
    }

    fn resolution(&self) -> Decision {
        match (self.decision.happened, self.decision.again) {
            (true, _) => Decision::Happened {
                result: self.result.as_deref().map(value_of).unwrap_or_default(),
            },
            (_, true) => Decision::Again,
            _ => Decision::GiveUp,
        }
    }
}

/// JSON, or the text as it stands.
fn value_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

async fn only_doubt(access: &Access, id: TaskId) -> anyhow::Result<String> {
    let task = access.task(id).await?;
    let task = task.ok_or_else(|| Fault::failed(format!("there is no task {id}")))?;
    let doubts = story::doubts(&task);
    match doubts.as_slice() {
        [only] => Ok(only.step.clone()),
        [] => Err(Fault::failed("no step of this task waits for a person").into()),
        several => {
            let names: Vec<&str> = several.iter().map(|doubt| doubt.step.as_str()).collect();
            let fault = Fault::usage("several steps wait for a person");
            Err(fault
                .help(format!("choose one with --step: {}", names.join(", ")))
                .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::tests::transcript;
    use super::*;

    #[test]
    fn a_list_reads_well() {
        let task = transcript().task;
        insta::assert_snapshot!(table(std::slice::from_ref(&task), Some(task.id), 7_201_000));
        assert_eq!(table(&[], None, 0), "no tasks\n");
    }

    #[test]
    fn tasks_that_nobody_works_on_are_told_from_those_that_run() {
        let mut task = transcript().task;
        task.state = "running".into();
        let running = table(std::slice::from_ref(&task), None, 0);
        assert!(!running.contains("halted"), "{running}");
        let task = task.at_rest();
        let halted = table(std::slice::from_ref(&task), None, 0);
        assert!(halted.contains("running, halted"), "{halted}");
        assert!(halted.contains("majordomo serve"), "{halted}");
        let shown = story::summary(&task, 0);
        assert!(shown.contains("running, halted (executing)"), "{shown}");
        assert!(shown.contains("majordomo serve"), "{shown}");
        assert!(!transcript().task.at_rest().halted, "it waits for a person");
    }

    #[test]
    fn names_of_files_cannot_command_the_terminal() {
        let file = TaskFile {
            name: "a\u{1b}[31m/bill\u{202e}fdp.exe".into(),
            mime: "text/plain".into(),
            bytes: 1,
            hash: shared::hash::Hash::of_bytes(b"x"),
        };
        let listed = inventory(std::slice::from_ref(&file));
        assert!(
            listed.contains("a\\u{1b}[31m/bill\\u{202e}fdp.exe"),
            "{listed}"
        );
        assert!(!listed.contains(['\u{1b}', '\u{202e}']), "{listed}");
        let told = fetched(Path::new("-"), Path::new(&file.name));
        assert_eq!(told, "-/a\\u{1b}[31m/bill\\u{202e}fdp.exe\n");
    }

    #[test]
    fn results_are_json_where_they_read_as_such() {
        assert_eq!(value_of("{\"id\": 7}")["id"], 7);
        assert_eq!(value_of("sent"), Value::from("sent"));
    }
}
