//! What the `majordomo` binary does: parses the command line, sets up logs, runs one command, and
//! turns its end into an exit code. One file per command. Everything that tasks are made of lies
//! behind [`access`]; stdout carries results alone, stderr everything else.

pub mod access;
mod ask;
mod asks;
mod backup;
mod bill;
mod budget;
mod channels;
mod check;
pub mod client;
pub mod context;
mod doctor;
pub mod exit;
mod feedback;
mod health;
mod init;
mod pair;
mod people;
mod permits;
mod pick;
mod progress;
mod schema;
mod serve;
mod signals;
mod slack;
mod stop;
mod story;
mod tasks;
mod token;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use agents::tools::Tool;

use self::context::{Context, colours, width};
use self::exit::Exit;
use crate::channels::papers;
use crate::telemetry::{self, Format, Verbosity};

/// Threads that work besides the main one, at least: one long computation must not hold up all.
const WORKERS: usize = 2;
/// What goes on in the background at the end is not waited for longer.
const LEAVE: Duration = Duration::from_millis(200);

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the task failed, or the command did
  2    the command line or the configuration is wrong
  3    the task waits for a person
  4    the task was cancelled
  5    the instance or server cannot be reached
  6    `doctor` or `channels test` found a problem
  7    everything is stopped: `majordomo resume --all`
  130  interrupted; an interrupted task goes on at the next `serve` or `ask`";

const EXAMPLES: &str = "\
Examples:
  majordomo ask \"What happens after a crash?\" --dir docs
  majordomo serve                          HTTP on 127.0.0.1:7717
  majordomo tasks list --state running
  majordomo tasks show 9f3a02c1 --full     everything that was done, from the journal
  majordomo init && majordomo check        a configuration of your own";

/// A supervisor for teams of agents: durable, within budget, and never silent about failure.
#[derive(Debug, Parser)]
#[command(
    name = "majordomo",
    version,
    after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// The folder that holds all state; else $MAJORDOMO_DATA, else the platform's data folder.
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The folder of the configuration; else $MAJORDOMO_CONFIG, else `config` in the data folder,
    /// else what the program brings along.
    #[arg(long, global = true, value_name = "DIR")]
    config: Option<PathBuf>,
    /// How logs are written to stderr. RUST_LOG says which.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    log: Format,
    /// Log more; -vv more still.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ask(ask::Ask),
    Serve(serve::Serve),
    #[command(subcommand)]
    Tasks(tasks::Tasks),
    Feedback(feedback::Feedback),
    Approvals(asks::Approvals),
    Approve(asks::Approve),
    Reject(asks::Reject),
    Questions(asks::Questions),
    Answer(asks::Answer),
    Escalations(asks::Escalations),
    Permits(permits::Permits),
    #[command(subcommand)]
    Token(token::Token),
    Pair(pair::Pair),
    People(people::People),
    Channels(channels::Channels),
    Check(check::Check),
    Init(init::Init),
    Schema(schema::Schema),
    #[command(subcommand)]
    Slack(slack::Slack),
    Health(health::Health),
    Doctor(doctor::Doctor),
    Backup(backup::Backup),
    Stop(stop::Stop),
    Resume(stop::Resume),
    Budget(budget::Budget),
    Usage(budget::Usage),
}

/// The whole program, with `tools` besides the built-in ones.
pub fn main_with(tools: Vec<Arc<dyn Tool>>) -> ExitCode {
    // A document's reader, which is this program again: before anything else begins.
    if let Some(job) = papers::child::job_of(std::env::args()) {
        return papers::child::child_main(&job);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be told where not even this can be printed.
            let _ = error.print();
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            return exit.into();
        }
    };
    // Refused where the process has one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let workers =
        std::thread::available_parallelism().map_or(WORKERS, |cores| cores.get().max(WORKERS));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build();
    let exit = match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(run(cli, tools));
            runtime.shutdown_timeout(LEAVE);
            exit
        }
        Err(error) => Err(error.into()),
    };
    match exit {
        Ok(exit) => exit.into(),
        Err(error) => {
            complain(&error);
            Exit::of_error(&error).into()
        }
    }
}

async fn run(cli: Cli, tools: Vec<Arc<dyn Tool>>) -> anyhow::Result<Exit> {
    let quiet = match cli.command {
        Command::Serve(_) => LevelFilter::INFO,
        _ => LevelFilter::WARN,
    };
    let verbosity = Verbosity::new(quiet, cli.global.verbose);
    let telemetry = telemetry::start(cli.global.log, verbosity, colours())?;
    let exit = command(cli, tools).await;
    telemetry.stop().await;
    exit
}

async fn command(cli: Cli, tools: Vec<Arc<dyn Tool>>) -> anyhow::Result<Exit> {
    let variable = |name: &str| std::env::var_os(name);
    let context = Context::new(cli.global.data, cli.global.config, variable, tools)?;
    match cli.command {
        Command::Ask(ask) => ask::run(&context, ask).await,
        Command::Serve(serve) => serve::run(&context, serve).await,
        Command::Tasks(tasks) => tasks::run(&context, tasks).await,
        Command::Feedback(feedback) => feedback.run(&context).await,
        Command::Approvals(approvals) => approvals.run(&context).await,
        Command::Approve(approve) => approve.run(&context).await,
        Command::Reject(reject) => reject.run(&context).await,
        Command::Questions(questions) => questions.run(&context).await,
        Command::Answer(answer) => answer.run(&context).await,
        Command::Escalations(escalations) => escalations.run(&context).await,
        Command::Permits(permits) => permits.run(&context).await,
        Command::Token(token) => token::run(&context, token).await,
        Command::Pair(pair) => pair::run(&context, pair).await,
        Command::People(people) => people::run(&context, people).await,
        Command::Channels(channels) => channels::run(&context, channels).await,
        Command::Check(check) => check::run(&context, check),
        Command::Init(init) => init::run(&context, init),
        Command::Schema(schema) => schema::run(schema),
        Command::Slack(slack) => slack::run(slack),
        Command::Health(health) => health::run(&context, health).await,
        Command::Doctor(doctor) => doctor::run(&context, doctor).await,
        Command::Backup(backup) => backup::run(&context, backup).await,
        Command::Stop(stop) => stop::stop(&context, stop).await,
        Command::Resume(resume) => stop::resume(&context, resume).await,
        Command::Budget(budget) => budget::budget(&context, budget).await,
        Command::Usage(usage) => budget::usage(&context, usage).await,
    }
}

/// Tells a person what went wrong: a configuration's problems drawn in full, all else in a line with
/// its causes.
fn complain(error: &anyhow::Error) {
    match error.downcast_ref::<shared::config::Report>() {
        Some(report) => eprintln!("{}", report.render(colours(), width())),
        None => eprintln!("error: {}", words::plain(&format!("{error:#}"))),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_reads_well() {
        let mut command = Cli::command().term_width(100);
        insta::assert_snapshot!(command.render_help().to_string());
    }

    #[test]
    fn good_lines_are_taken() {
        for line in [
            "majordomo ask what is this --dir docs --budget-usd 0.5 -q",
            "majordomo ask - --json --agent writer --thread t",
            "majordomo --data d serve --listen 0.0.0.0:7717 --first-token --log json -vv",
            "majordomo tasks list --state awaiting_human --metadata a=b --metadata c=d=e --limit 5",
            "majordomo tasks show abcd --full --cost",
            "majordomo tasks resolve abcd --happened --result 7",
            "majordomo tasks cancel abcd --data d",
            "majordomo tasks retry abcd",
            "majordomo tasks fork abcd --from step/2",
            "majordomo tasks dead --json --limit 7",
            "majordomo feedback abcd good",
            "majordomo feedback abcd bad it is too long",
            "majordomo approvals",
            "majordomo approvals --all --json",
            "majordomo approvals list --all",
            "majordomo approvals show 1a2b3c4d --json",
            "majordomo approve 1a2b3c4d --for-task",
            "majordomo approve 1a2b3c4d --args @args.json",
            "majordomo approve 1a2b3c4d --times 20",
            "majordomo approve 1a2b3c4d --for 8h --matching to=*@example.org --tainted",
            "majordomo permits --all --json",
            "majordomo permits show 1a2b3c4d",
            "majordomo permits add executor send_email --any --for 30m --times 3",
            "majordomo permits revoke 1a2b3c4d",
            "majordomo reject 1a2b3c4d --reason no",
            "majordomo questions --json",
            "majordomo questions show 1a2b3c4d",
            "majordomo answer 1a2b3c4d the second one",
            "majordomo escalations",
            "majordomo escalations show 1a2b3c4d",
            "majordomo escalations resolve 1a2b3c4d --again",
            "majordomo escalations resolve 1a2b3c4d --happened --result 7",
            "majordomo escalations resolve 1a2b3c4d --guide calmly",
            "majordomo token new ci --scope admin --scope on_behalf --principal p",
            "majordomo pair ada --roles member,approver --label phone --ttl-min 5",
            "majordomo people --json",
            "majordomo people remove slack:T1/U1",
            "majordomo channels",
            "majordomo channels test",
            "majordomo channels test telegram",
            "majordomo channels retry slack",
            "majordomo schema agent",
            "majordomo schema",
            "majordomo init config",
            "majordomo check --config c",
            "majordomo health",
            "majordomo doctor --json",
            "majordomo backup copy.db",
            "majordomo stop --all --reason why",
            "majordomo stop --agent writer",
            "majordomo resume --task abcd",
            "majordomo budget --json",
            "majordomo budget set user:ada 5.00/day",
            "majordomo usage --by thread --days 7 --forecast --json",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn bad_lines_are_refused() {
        for line in [
            "majordomo",
            "majordomo ask x --budget-usd 0",
            "majordomo serve --listen 7717",
            "majordomo tasks list --state gone",
            "majordomo tasks list --metadata a",
            "majordomo tasks list --limit 0",
            "majordomo tasks resolve abcd",
            "majordomo tasks resolve abcd --again --give-up",
            "majordomo tasks resolve abcd --again --result 7",
            "majordomo feedback abcd fine",
            "majordomo approve",
            "majordomo approve 1a2b3c4d --for-task --args {}",
            "majordomo approve 1a2b3c4d --for-task --for 8h",
            "majordomo approve 1a2b3c4d --args {} --times 2",
            "majordomo approve 1a2b3c4d --times 0",
            "majordomo permits add executor send_email --any --matching a=b --times 1",
            "majordomo permits add executor --times 1",
            "majordomo answer 1a2b3c4d",
            "majordomo escalations resolve 1a2b3c4d",
            "majordomo escalations resolve 1a2b3c4d --again --result 7",
            "majordomo token new ci --scope root",
            "majordomo pair",
            "majordomo pair ada --roles king",
            "majordomo pair ada --ttl-min 0",
            "majordomo people remove",
            "majordomo channels retry",
            "majordomo schema tools",
            "majordomo check --log xml",
            "majordomo stop",
            "majordomo stop --all --agent writer",
            "majordomo resume --all --reason why",
            "majordomo budget set user:ada",
            "majordomo usage --by colour",
            "majordomo usage --days 0",
        ] {
            assert!(parse(line).unwrap_err().use_stderr(), "{line}");
        }
    }
}
