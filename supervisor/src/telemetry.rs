//! Logs, traces and metrics: how a process tells others what it does.
//!
//! ```text
//!   spans ──► tracing ──► text or JSON on stderr
//!                    └──► OTLP, where the standard variables name a collector
//!   journal's events ──► observe ──► metrics ──► metrics_text ──► GET /metrics
//!                               └──► info logs
//! ```
//! All runs of a task share one trace without any stored state: [`join_trace`] derives the trace's id
//! from the task's. Nothing here ever holds a prompt, an answer or a tool's arguments. Called by the
//! command line ([`start`], [`observe`]), the engine ([`join_trace`]) and the HTTP door
//! ([`metrics_text`]).

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use metrics::{counter, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use sha2::{Digest, Sha256};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use shared::event::{Event, Recorded};
use shared::id::{RunId, TaskId};
use shared::money::Usage;
use shared::store::Run;

/// The crates whose spans and logs are this program's own.
const OWN: [&str; 4] = ["supervisor", "agents", "shared", "majordomo"];

/// Bounds of the histogram of step times, in milliseconds: from a file's reading to a slow model.
const STEP_MS: [f64; 12] = [
    1.0, 5.0, 20.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 10_000.0, 30_000.0, 120_000.0,
];

/// Samples of a histogram are folded into their buckets after so many steps, so that they cannot
/// pile up where nobody asks for metrics.
const FOLD_EVERY: u32 = 512;

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One line of text each.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

/// What is logged where `RUST_LOG` does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verbosity(LevelFilter);

impl Verbosity {
    /// `quiet` is a command's own level; each `-v` raises it by one.
    pub fn new(quiet: LevelFilter, raised: u8) -> Self {
        const LEVELS: [LevelFilter; 4] = [
            LevelFilter::WARN,
            LevelFilter::INFO,
            LevelFilter::DEBUG,
            LevelFilter::TRACE,
        ];
        let from = LEVELS.iter().position(|level| *level == quiet).unwrap_or(0);
        let level = LEVELS
            .get(from + usize::from(raised))
            .unwrap_or(&LevelFilter::TRACE);
        Self(*level)
    }

    fn filter(self) -> EnvFilter {
        let asked = std::env::var("RUST_LOG")
            .ok()
            .filter(|asked| !asked.is_empty());
        let own: Vec<String> = OWN
            .iter()
            .map(|name| format!("{name}={}", self.0))
            .collect();
        // It logs whole answers that it cannot read; what is wrong with them is told elsewhere.
        const SILENT: &str = "async_openai=off";
        EnvFilter::new(asked.unwrap_or_else(|| format!("warn,{SILENT},{}", own.join(","))))
    }
}

/// What must be put down at the process's end.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Sets up logs on stderr, and traces where a collector is named. Once per process.
pub fn start(format: Format, verbosity: Verbosity, colours: bool) -> anyhow::Result<Telemetry> {
    let traces = match wanted(|name| std::env::var(name).ok()) {
        true => Some(exporting().context("traces cannot be sent by OTLP")?),
        false => None,
    };
    let logs = tracing_subscriber::fmt::layer()
        .with_ansi(colours)
        .with_writer(std::io::stderr);
    let logs = match format {
        Format::Text => logs.with_target(false).boxed(),
        Format::Json => logs
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .boxed(),
    };
    let spans = traces.as_ref().map(|provider| {
        let tracer = provider.tracer("majordomo");
        let own = OWN.map(|name| (name, LevelFilter::INFO));
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_filter(Targets::new().with_targets(own))
    });
    Registry::default()
        .with(spans)
        .with(logs.with_filter(verbosity.filter()))
        .try_init()
        .context("logs are set up already")?;
    Ok(Telemetry { traces })
}

impl Telemetry {
    /// Sends what is not sent yet. The exporter blocks, so it gets a thread of its own.
    pub async fn stop(self) {
        let Some(traces) = self.traces else { return };
        match tokio::task::spawn_blocking(move || traces.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last traces were not sent"),
            Err(error) => tracing::warn!(%error, "the last traces were not sent"),
        }
    }
}

/// Whether the standard variables switch export on.
fn wanted(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let named = set("OTEL_EXPORTER_OTLP_ENDPOINT").or(set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"));
    let disabled = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let none = set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    named.is_some() && !disabled && !none
}

/// Endpoint, headers, timeouts and batch sizes come from the standard variables.
fn exporting() -> anyhow::Result<SdkTracerProvider> {
    // Refused where the process has one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let exporter = SpanExporter::builder().with_http().build()?;
    let mut resource = Resource::builder().with_attribute(opentelemetry::KeyValue::new(
        "service.version",
        env!("CARGO_PKG_VERSION"),
    ));
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("majordomo");
    }
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build());
    Ok(provider.build())
}

/// Puts a run's span into its task's trace. Every run of a task, in whatever process and after
/// whatever restart, lands in the same one; so the span must not have been entered yet.
pub fn join_trace(span: &tracing::Span, run: &Run) {
    let parent = opentelemetry::Context::new().with_remote_span_context(SpanContext::new(
        trace_of(run.task),
        span_of(run.id),
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    ));
    // Refused where traces are not exported.
    let _ = span.set_parent(parent);
}

/// The trace of a task: its id.
fn trace_of(task: TaskId) -> TraceId {
    TraceId::from_bytes(task.0.into_bytes())
}

/// What stands for a run in its trace: the same for all its stays in memory.
fn span_of(run: RunId) -> SpanId {
    let mut first = [0; 8];
    first.copy_from_slice(&Sha256::digest(run.0.as_bytes())[..8]);
    SpanId::from_bytes(first)
}

/// All metrics in Prometheus' text format.
pub fn metrics_text() -> String {
    let handle = recorder();
    handle.run_upkeep();
    handle.render()
}

/// The process's metrics; made when first needed.
fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full("majordomo_step_ms".into()), &STEP_MS);
        let recorder = match builder {
            Ok(builder) => builder.build_recorder(),
            Err(_) => PrometheusBuilder::new().build_recorder(),
        };
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed, /metrics stays empty");
        }
        describe();
        handle
    })
}

fn describe() {
    use metrics::{describe_counter, describe_histogram};
    describe_counter!("majordomo_tasks_total", "Changes of tasks into each state.");
    describe_counter!(
        "majordomo_steps_total",
        "Steps by who did them, what they were and how they ended."
    );
    describe_counter!(
        "majordomo_attempts_total",
        "Attempts at steps, failed ones included."
    );
    describe_counter!("majordomo_tokens_total", "Tokens sent and received.");
    metrics::describe_gauge!("majordomo_cost_usd", "Dollars spent since the start.");
    describe_counter!(
        "majordomo_in_doubt_total",
        "Steps of which nobody can tell whether they happened."
    );
    describe_counter!(
        "majordomo_events_missed_total",
        "Events that these metrics do not count, because they came too fast."
    );
    describe_histogram!(
        "majordomo_step_ms",
        "How long the last attempt of a step took, in milliseconds."
    );
}

/// How long counts and logs may lag behind.
const PATIENCE: Duration = Duration::from_millis(20);

/// Turns events into metrics and logs until the store is closed.
pub async fn observe(mut events: broadcast::Receiver<Recorded>) {
    recorder();
    let mut since_folded = 0;
    loop {
        match events.recv().await {
            Ok(event) => {
                since_folded += u32::from(matches!(event.event, Event::Ended { .. }));
                count(&event.event);
                log(&event);
            }
            Err(RecvError::Lagged(missed)) => {
                counter!("majordomo_events_missed_total").increment(missed);
                tracing::warn!(events.missed = missed, "events came too fast to be counted");
            }
            Err(RecvError::Closed) => return,
        }
        if events.is_empty() {
            // Many at once cost less than one at a time, each with a thread to be woken.
            tokio::time::sleep(PATIENCE).await;
        }
        if since_folded >= FOLD_EVERY {
            since_folded = 0;
            recorder().run_upkeep();
        }
    }
}

fn count(event: &Event) {
    match event {
        Event::State {
            state, agent: None, ..
        } => {
            counter!("majordomo_tasks_total", "state" => state.as_str()).increment(1);
        }
        Event::Retrying { agent, what, .. } => {
            counter!("majordomo_attempts_total", "agent" => agent.to_string(), "what" => what.clone())
                .increment(1);
        }
        Event::Ended {
            agent,
            what,
            error,
            usage,
            ms,
            ..
        } => {
            let outcome = if error.is_some() { "failed" } else { "done" };
            ended(agent.as_str(), what, outcome);
            spent(agent.as_str(), usage);
            histogram!("majordomo_step_ms", "what" => what.clone()).record(*ms as f64);
        }
        Event::InDoubt { agent, what, .. } => {
            ended(agent.as_str(), what, "in_doubt");
            counter!("majordomo_in_doubt_total", "what" => what.clone()).increment(1);
        }
        Event::Asked { kind, .. } => {
            counter!("majordomo_asks_total", "kind" => kind.as_str()).increment(1);
        }
        Event::Alert { key, .. } => {
            let about = key.split('/').next().unwrap_or_default().to_owned();
            counter!("majordomo_alerts_total", "about" => about).increment(1);
        }
        Event::State { .. } | Event::Phase { .. } | Event::Begun { .. } | Event::Decided { .. } => {
        }
    }
}

/// A step's outcome, which its last attempt led to.
fn ended(agent: &str, what: &str, outcome: &'static str) {
    let (agent, what) = (agent.to_owned(), what.to_owned());
    counter!("majordomo_attempts_total", "agent" => agent.clone(), "what" => what.clone())
        .increment(1);
    counter!("majordomo_steps_total", "agent" => agent, "what" => what, "outcome" => outcome)
        .increment(1);
}

fn spent(agent: &str, usage: &Usage) {
    let tokens = |direction: &'static str| counter!("majordomo_tokens_total", "agent" => agent.to_owned(), "direction" => direction);
    tokens("in").increment(usage.tokens_in);
    tokens("out").increment(usage.tokens_out);
    // The facade counts in whole numbers only; a gauge may hold dollars and grows all the same.
    metrics::gauge!("majordomo_cost_usd", "agent" => agent.to_owned())
        .increment(usage.usd.dollars());
}

/// States, outcomes and costs at info; what was asked, found or answered never.
fn log(recorded: &Recorded) {
    let (task, run) = (recorded.task, recorded.run);
    match &recorded.event {
        Event::State { state, agent, .. } => tracing::info!(
            task.id = %task,
            run.id = %run,
            agent.name = agent.as_ref().map(|agent| agent.as_str()),
            task.state = state.as_str(),
            "state changed"
        ),
        Event::Phase { phase } => {
            tracing::info!(task.id = %task, task.phase = phase.as_str(), "phase entered");
        }
        Event::Begun {
            key,
            agent,
            what,
            attempt,
            ..
        } => tracing::debug!(
            task.id = %task, run.id = %run, agent.name = %agent,
            step.key = %key, step.what = what, step.attempt = attempt, "step begun"
        ),
        Event::Retrying {
            key,
            agent,
            what,
            pause_ms,
            ..
        } => tracing::info!(
            task.id = %task, run.id = %run, agent.name = %agent,
            step.key = %key, step.what = what, pause.ms = pause_ms, "attempt failed, another follows"
        ),
        Event::Ended {
            key,
            agent,
            what,
            error,
            usage,
            ms,
            ..
        } => tracing::info!(
            task.id = %task, run.id = %run, agent.name = %agent,
            step.key = %key, step.what = what, step.ms = ms, step.failed = error.is_some(),
            cost.usd = usage.usd.dollars(), tokens.in = usage.tokens_in, tokens.out = usage.tokens_out,
            "step ended"
        ),
        Event::InDoubt {
            key, agent, what, ..
        } => tracing::warn!(
            task.id = %task, run.id = %run, agent.name = %agent,
            step.key = %key, step.what = what, "step in doubt: a person must say whether it happened"
        ),
        Event::Asked { ask, kind, .. } => tracing::info!(
            task.id = %task, run.id = %run, ask.id = %ask, ask.kind = kind.as_str(), "people are asked"
        ),
        // Whoever found it out has said so.
        Event::Alert { .. } => {}
        Event::Decided { .. } => tracing::debug!(task.id = %task, run.id = %run, "decided"),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use axum::body::Bytes;
    use tokio::sync::mpsc;

    use shared::hash::Hash;
    use shared::label::Authority;
    use shared::money::Usd;
    use shared::run::Timestamp;
    use shared::store::RunState;
    use shared::task::TaskState;

    use super::*;

    fn run_of(task: TaskId, id: RunId) -> Run {
        Run {
            id,
            task,
            parent: None,
            kind: shared::store::kind::TASK.into(),
            agent: None,
            input: serde_json::Value::Null,
            catalog: Hash::of_bytes(b""),
            authority: Authority {
                tenant: "default".into(),
                principal: "local".into(),
                material: None,
                output: None,
            },
            state: RunState::Running,
            epoch: 1,
            wakes: 0,
            deaths: 0,
            created_at: Timestamp(0),
        }
    }

    #[test]
    fn export_is_on_only_where_a_collector_is_named() {
        let cases: [(&[(&str, &str)], bool); 5] = [
            (&[], false),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], false),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")], true),
            (
                &[(
                    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                    "http://c:4318/v1/traces",
                )],
                true,
            ),
            (
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
                    ("OTEL_SDK_DISABLED", "true"),
                ],
                false,
            ),
        ];
        for (set, expected) in cases {
            let variable = |name: &str| {
                let found = set.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(wanted(variable), expected, "{set:?}");
        }
    }

    #[test]
    fn each_v_tells_one_level_more() {
        let level = |quiet, raised| Verbosity::new(quiet, raised).0;
        assert_eq!(level(LevelFilter::WARN, 0), LevelFilter::WARN);
        assert_eq!(level(LevelFilter::WARN, 2), LevelFilter::DEBUG);
        assert_eq!(level(LevelFilter::INFO, 9), LevelFilter::TRACE);
    }

    const CHILD: &str = "telemetry::tests::sends_two_runs_of_a_task";

    /// Runs in a process of its own, which has the variables from its start.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "started by spans_of_all_runs_reach_a_collector_in_the_trace_of_their_task"]
    async fn sends_two_runs_of_a_task() {
        let task: TaskId = std::env::var("TASK").unwrap().parse().unwrap();
        let verbosity = Verbosity::new(LevelFilter::WARN, 0);
        let telemetry = start(Format::Text, verbosity, false).unwrap();
        for run in [task.into(), RunId::fresh()] {
            let span = tracing::info_span!(parent: None, "invoke_agent", task.id = %task);
            join_trace(&span, &run_of(task, run));
            let _entered = span.enter();
            let _inner = tracing::info_span!("chat").entered();
        }
        telemetry.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn spans_of_all_runs_reach_a_collector_in_the_trace_of_their_task() {
        let (bodies, mut received) = mpsc::unbounded_channel();
        let collect = move |body: Bytes| {
            let bodies = bodies.clone();
            async move { bodies.send(body).unwrap() }
        };
        let collector = axum::Router::new().route("/v1/traces", axum::routing::post(collect));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, collector).await });

        let task = TaskId::fresh();
        let child = tokio::task::spawn_blocking(move || {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", CHILD, "--ignored"])
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"))
                .env("TASK", task.to_string())
                .output()
        });
        let output = child.await.unwrap().unwrap();
        assert!(output.status.success(), "{output:?}");

        let mut sent = Vec::new();
        while let Ok(body) = received.try_recv() {
            sent.extend_from_slice(&body);
        }
        let count = |needle: &[u8]| {
            sent.windows(needle.len())
                .filter(|part| *part == needle)
                .count()
        };
        assert_eq!(count(task.0.as_bytes()), 4, "two runs with two spans each");
        assert_eq!(count(b"invoke_agent"), 2);
        assert!(count(b"majordomo") > 0);
        let parent = span_of(task.into());
        assert_eq!(
            count(&parent.to_bytes()),
            1,
            "a run's span hangs below the run"
        );
    }

    #[tokio::test]
    async fn events_become_metrics_and_missed_ones_are_counted() {
        let recorded = |seq, event| Recorded {
            seq,
            task: TaskId::fresh(),
            run: RunId::fresh(),
            at: Timestamp(0),
            event,
        };
        let (events, feed) = broadcast::channel(4);
        let usage = Usage {
            tokens_in: 70,
            tokens_out: 7,
            usd: Usd::from_dollars(0.25),
            ..Usage::default()
        };
        let step = |what: &str| Event::Ended {
            key: "think/1".into(),
            agent: "observed".into(),
            what: what.into(),
            detail: "never shown".into(),
            error: None,
            usage,
            ms: 12,
        };
        let doubt = Event::InDoubt {
            key: "tool/1".into(),
            agent: "observed".into(),
            what: "send".into(),
            evidence: Vec::new(),
        };
        let done = Event::State {
            state: TaskState::Done,
            reason: String::new(),
            agent: None,
        };
        for event in [
            step("lost"),
            step("lost"),
            step("think"),
            step("think"),
            doubt,
            done,
        ] {
            events.send(recorded(1, event)).unwrap();
        }
        drop(events);
        observe(feed).await;
        let text = metrics_text();
        for line in [
            r#"majordomo_steps_total{agent="observed",what="think",outcome="done"} 2"#,
            r#"majordomo_steps_total{agent="observed",what="send",outcome="in_doubt"} 1"#,
            r#"majordomo_tokens_total{agent="observed",direction="in"} 140"#,
            r#"majordomo_cost_usd{agent="observed"} 0.5"#,
            r#"majordomo_in_doubt_total{what="send"} 1"#,
            r#"majordomo_tasks_total{state="done"} 1"#,
            r#"majordomo_step_ms_bucket{what="think",le="20"} 2"#,
            "majordomo_events_missed_total 2",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("never shown"));
    }
}
