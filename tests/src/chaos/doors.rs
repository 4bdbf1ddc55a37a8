//! A process that speaks to Telegram dies at every point between fetching a message and recording its
//! answer, and starts again. Each message has one answer in the end, and dead placeholders are counted.
//! The control posts answers instead of making them out of recorded messages: it must answer twice.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use super::fleet::{Fleet, Work};
use super::{Finding, Plan};
use crate::doubles::telegram::FakeTelegram;
use crate::place::Kind;

const ADA: i64 = 7;
const ANSWER: &str = "It is done.";
const AGENT: &str = r#"
name = "executor"
description = "Answers what the chaos program says in a chat, with the same words each time."
prompt = "You are the executor."
"#;
const SCRIPT: &str = r#"
[[agent]]
name = "executor"
system = "You are the executor."
[[agent.reply]]
text = "It is done."
"#;
/// A life that came through so many points has done all that it was to do.
const POINTS: u64 = 45;
/// How long a process may take to die, or to answer.
const PATIENCE: Duration = Duration::from_secs(6);

pub(super) async fn run(plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (kind, short, full) in [(Kind::Folder, 25, 500), (Kind::Database, 6, 150)] {
        let kills = plan.times(short, full);
        let chat = lives(plan, kind, kills, "").await;
        let control = lives(plan, kind, 6, "post-answers").await;
        findings.push(Finding {
            line: format!(
                "{kind:?}: Telegram, {chat}; control post-answers: {} answered twice",
                control.repeated
            ),
            holds: chat.kills >= kills
                && chat.others.is_empty()
                && (chat.lost, chat.repeated) == (0, 0)
                && control.repeated > 0,
        });
    }
    findings
}

/// What a chat looks like in the end.
#[derive(Default)]
struct Chat {
    kills: u32,
    messages: u32,
    /// Messages without an answer.
    lost: u32,
    /// Messages with more than one.
    repeated: u32,
    /// Messages whose answer is that the process died over them three times in a row.
    dead: u32,
    /// Placeholders that nothing came of.
    orphans: u32,
    /// What else was said.
    others: Vec<String>,
}

impl std::fmt::Display for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} kills, {} messages: lost {}, answered twice {}, told that they killed {}, \
             dead placeholders {}",
            self.kills, self.messages, self.lost, self.repeated, self.dead, self.orphans
        )?;
        match self.others.is_empty() {
            true => Ok(()),
            false => write!(f, ", others {:?}", self.others),
        }
    }
}

async fn lives(plan: &Plan, kind: Kind, kills: u32, mutant: &'static str) -> Chat {
    let work = Work {
        settings: "",
        agent: "",
        mutant,
        model_ms: 0,
        tool_ms: 0,
    };
    let fake = FakeTelegram::start().await;
    let fleet = Fleet::new(plan, kind.place().await, work);
    configure(&fleet, &fake);
    let mut chance = plan.chance();
    let (mut killed, mut turn) = (0, chance.u64(0..POINTS));
    let mut asked = Vec::new();
    while killed < kills && asked.len() < 3 * kills as usize {
        // All points in turn; in the short form with gaps.
        let at = 1 + turn % POINTS;
        turn += 1 + u64::from(!plan.full) * 2;
        asked.push(
            fake.says(crate::doubles::telegram::Say::new(ADA, ADA, "Do it"))
                .message_id,
        );
        if chance.u32(0..4) == 0 {
            // What was confirmed comes again, as it does.
            fake.redeliver(chance.i64(1..=asked.len() as i64));
        }
        // The mutant is caught where it errs: between the second thing that is sent, and its record.
        let place = match mutant {
            "" => format!("*:{at}"),
            _ => "send.after:2".into(),
        };
        killed += u32::from(life(&fleet, &fake, &asked, Some(place)).await);
    }
    life(&fleet, &fake, &asked, None).await;
    count(&fake, &asked, killed)
}

/// One process: to its death at this point, or until everything is answered. Whether it died.
async fn life(fleet: &Fleet, fake: &FakeTelegram, asked: &[i64], at: Option<String>) -> bool {
    fleet.place.lapse().await;
    let mut command = fleet.command();
    if let Some(at) = &at {
        command.env("MAJORDOMO_CRASH", at);
    }
    command.stdout(Stdio::null());
    let mut child = command.spawn().expect("a replica starts");
    // Waiting for its end would close it, and end it.
    let _input = child.stdin.take();
    let all = async {
        // At the end everything is answered, at the pace that a chat allows.
        let patience = match at {
            Some(_) => PATIENCE,
            None => PATIENCE + Duration::from_secs(2) * asked.len() as u32,
        };
        fake.until(patience, |fake| count(fake, asked, 0).lost == 0)
            .await;
        // What is sent is recorded in a moment: deaths are wanted there, too.
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    tokio::select! {
        ended = child.wait() => !ended.is_ok_and(|status| status.success()),
        () = all => {
            // On an error it has ended already.
            let _ = child.kill().await;
            false
        }
    }
}

fn configure(fleet: &Fleet, fake: &FakeTelegram) {
    let token = fleet.place.path().join("token");
    std::fs::write(&token, fake.token()).expect("a file");
    let settings = format!(
        "[models.default]\nprovider = \"scripted\"\nfile = \"script.toml\"\n\
         [engine]\nlease_s = 1.5\nbeat_s = 0.3\n\
         [conversations]\nfollow_up = \"beside\"\nturns = 0\n\
         [telegram]\ntoken = \"${{file:{}}}\"\napi_url = \"{}\"\n\
         [[people]]\nname = \"ada\"\ntelegram = {ADA}\n\
         [[routes]]\nchannel = \"telegram\"\nagents = [\"executor\"]\n",
        token.display(),
        fake.url()
    );
    fleet.write("majordomo.toml", &settings);
    fleet.write("agents/executor.toml", AGENT);
    fleet.write("script.toml", SCRIPT);
    fleet.place.configure(&fleet.place.path().join("config"));
}

fn count(fake: &FakeTelegram, asked: &[i64], kills: u32) -> Chat {
    let mut answers: BTreeMap<i64, u32> = asked.iter().map(|message| (*message, 0)).collect();
    let mut chat = Chat {
        kills,
        messages: asked.len() as u32,
        ..Chat::default()
    };
    for message in fake.from_bot(ADA) {
        let to = message.reply_to.and_then(|to| answers.get_mut(&to));
        let died = message.text.contains("the process died");
        chat.dead += u32::from(died);
        match (died || message.text == ANSWER, to) {
            (true, Some(answers)) => *answers += 1,
            _ if message.text.starts_with('⏳') => chat.orphans += 1,
            _ => chat.others.push(message.text),
        }
    }
    chat.lost = answers.values().filter(|answers| **answers == 0).count() as u32;
    chat.repeated = answers.values().filter(|answers| **answers > 1).count() as u32;
    chat
}
