//! Who is known in chats: by a code, by a claim, by a group; and who is not any more. Against servers that
//! behave as the real ones do.

use std::time::Duration;

use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::doubles::fault::FailHow;
use majordomo_tests::doubles::slack::{FakeSlack, TEAM};
use majordomo_tests::doubles::telegram::{Access, FakeTelegram, Message, Person, Say, Standing};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use majordomo_tests::wait;
use shared::config::Role;
use shared::store::{NewOut, TaskFilter};
use shared::task::Task;
use supervisor::auth::LocalToken;
use supervisor::channels::http;
use supervisor::people::directory::{CODE_LASTS, Offer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::chats::{kept, reply, says, texts};

on_both_stores!(
    a_code_makes_one_person_of_two_identities,
    a_code_is_good_once_and_for_its_time,
    no_code_rests_in_plain_text,
    admins_are_told_whose_answer_was_not_delivered_and_no_code,
    codes_are_neither_given_nor_taken_where_others_read_along,
    whoever_guesses_is_not_listened_to_any_more,
    the_first_admin_is_whoever_shows_the_code_of_this_start,
    whoever_is_unlinked_is_a_stranger_from_then_on,
    what_waited_of_whoever_was_unlinked_ends_with_a_word,
    names_change_hands_and_change_nothing,
    members_of_a_telegram_group_may_until_they_leave,
    nothing_runs_for_whom_the_far_side_says_nothing,
    members_of_slack_groups_may_until_they_leave,
    a_task_is_stopped_by_whoever_asked_for_it_or_an_admin,
);

const ADA: i64 = 7;
const BOB: i64 = 9;
const EVE: i64 = 8;
const CREW: i64 = -1005;
const PATIENCE: Duration = Duration::from_secs(20);
const TEN_MINUTES: Duration = Duration::from_secs(600);

/// An instance between both services.
struct Town {
    app: TestApp,
    telegram: FakeTelegram,
    slack: FakeSlack,
    closing: CancellationToken,
}

impl Town {
    async fn new(kind: Kind, replies: &str, more: &str) -> Self {
        let (telegram, slack) = (FakeTelegram::start().await, FakeSlack::start().await);
        let secrets = slack.settings();
        let settings = format!(
            "[telegram]\ntoken = \"{}\"\napi_url = \"{}\"\n\n\
             [slack]\nbot_token = \"{}\"\nsigning_secret = \"{}\"\napi_url = \"{}\"\n\n{more}",
            kept(&telegram.token()),
            telegram.url(),
            kept(&secrets.bot_token),
            kept(&secrets.signing_secret),
            slack.url(),
        );
        let app = Setup::worker(replies, &[], &settings)
            .on(kind)
            .start()
            .await;
        app.app.open_channels().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/slack/events", listener.local_addr().unwrap());
        slack.set_target(&url);
        let (closing, token) = (CancellationToken::new(), LocalToken::fresh().unwrap());
        tokio::spawn(http::serve(
            app.app.clone(),
            listener,
            token,
            closing.clone(),
        ));
        Self {
            app,
            telegram,
            slack,
            closing,
        }
    }

    /// A code for somebody, as `majordomo pair` makes it.
    async fn code(&self, name: &str, roles: &[Role]) -> String {
        let offer = Offer {
            name: name.into(),
            roles: roles.to_vec(),
            label: "Ada's phone".into(),
            lasts: CODE_LASTS,
            made_by: "local".into(),
        };
        self.app.app.people.offer(offer).await.unwrap().0.expose()
    }

    /// Says something in private and waits for an answer that holds this.
    async fn tell(&self, user: i64, text: &str, answer: &'static str) -> String {
        self.telegram.user_says(user, user, text);
        self.hears(user, answer).await
    }

    async fn hears(&self, chat: i64, answer: &'static str) -> String {
        let found = |messages: &[Message]| {
            let mut texts = messages.iter().rev().map(|message| &message.text);
            texts.find(|text| text.contains(answer)).cloned()
        };
        let heard = self
            .telegram
            .until(PATIENCE, |fake| found(&fake.from_bot(chat)).is_some())
            .await;
        let messages = self.telegram.from_bot(chat);
        assert!(heard, "{answer}: {messages:#?}");
        found(&messages).unwrap()
    }

    /// The same in Slack, directly.
    async fn write(&self, user: &str, text: &str, answer: &'static str) {
        self.slack.dm(user, text);
        self.reads(&self.slack.im(user), answer).await;
    }

    async fn reads(&self, channel: &str, answer: &'static str) {
        let has = |fake: &FakeSlack| says(answer)(&fake.from_bot(channel));
        let read = self.slack.until(PATIENCE, has).await;
        let messages = self.slack.from_bot(channel);
        assert!(read, "{answer}: {:#?}", texts(&messages));
    }

    async fn tasks(&self) -> Vec<Task> {
        let all = TaskFilter {
            limit: 9,
            ..TaskFilter::default()
        };
        self.app.app.desk.tasks(&all).await.unwrap()
    }

    /// Waits until nothing that was said is left to be dealt with.
    async fn settled(&self) {
        let mail = self.app.app.store.mail();
        for channel in ["telegram", "slack"] {
            wait::until("all is dealt with", PATIENCE, async || {
                let unread = mail.unread(self.app.app.tenant(), channel, 0, 9).await;
                unread.unwrap().is_empty() && self.telegram.pending().is_empty()
            })
            .await;
        }
    }

    async fn stop(self) {
        self.closing.cancel();
        self.app.stop().await;
    }
}

/// The code in an answer.
fn code_in(answer: &str) -> String {
    let (_, rest) = answer.split_once("/pair ").unwrap();
    rest.split_whitespace().next().unwrap().to_owned()
}

async fn a_code_makes_one_person_of_two_identities(kind: Kind) {
    let town = Town::new(kind, &reply("Done."), "").await;
    let code = town.code("ada", &[Role::Member]).await;
    let word = format!("/pair {}", code.to_lowercase().replace('-', ""));
    let linked = town.tell(ADA, &word, "This links you to ada").await;
    assert!(
        linked.contains("(Ada's phone)") && linked.contains("member"),
        "{linked}"
    );
    let offered = town
        .tell(ADA, "/pair", "Write this to me from your other chat")
        .await;
    let own = code_in(&offered);
    town.write("U1", &format!("pair {own}"), "This links you to *ada*")
        .await;
    let told = town.hears(ADA, "You are known in another place").await;
    assert!(told.contains(&format!("slack:{TEAM}/U1")), "{told}");
    town.write("U1", "Do it", "Done.").await;
    town.tell(ADA, "Do it, too", "Done.").await;
    let tasks = town.tasks().await;
    let names: Vec<&str> = tasks.iter().map(|task| task.principal.as_str()).collect();
    assert_eq!(names, ["ada", "ada"]);
    town.stop().await;
}

async fn a_code_is_good_once_and_for_its_time(kind: Kind) {
    let town = Town::new(kind, &reply("never"), "").await;
    let (used, late) = (
        town.code("ada", &[Role::Member]).await,
        town.code("ada", &[Role::Member]).await,
    );
    town.tell(ADA, &format!("/pair {used}"), "This links you")
        .await;
    town.tell(
        ADA,
        &format!("/pair {late}"),
        "I know you here already, as ada",
    )
    .await;
    town.tell(EVE, &format!("/pair {used}"), "No such code is good")
        .await;
    town.app.place().age_codes(CODE_LASTS).await;
    town.tell(BOB, &format!("/pair {late}"), "No such code is good")
        .await;
    assert!(town.tasks().await.is_empty());
    town.stop().await;
}

async fn no_code_rests_in_plain_text(kind: Kind) {
    let town = Town::new(kind, &reply("Done."), "").await;
    let (given, claim) = (
        town.code("ada", &[Role::Member]).await,
        town.app.app.people.offer_claim().await.unwrap().unwrap(),
    );
    let claim = claim.0.expose();
    let typed = given.to_lowercase().replace('-', "");
    town.tell(ADA, &format!("/pair {typed}"), "This links you to ada")
        .await;
    town.tell(BOB, &format!("/claim {claim}"), "This links you to")
        .await;
    let offered = town.tell(ADA, "/pair", "from your other chat").await;
    let own = code_in(&offered);
    // Who replies to a message shows it, too.
    let with_code = town.telegram.from_bot(ADA).pop().unwrap().id;
    town.telegram.says(Say {
        reply_to: Some(with_code),
        ..Say::new(ADA, ADA, "/status")
    });
    town.hears(ADA, "Nothing is going on").await;
    town.write("U1", &format!("pair {own}"), "This links you to *ada*")
        .await;
    town.slack.add_channel("C1", "general", &["U1"]);
    town.slack.slash("C1", "U1", "/majordomo", "pair");
    town.reads(&town.slack.im("U1"), "from your other chat")
        .await;
    let codes = town.slack.from_bot(&town.slack.im("U1"));
    let by_slack = code_in(&codes.last().unwrap().text);
    town.settled().await;
    let kept = town.app.place().mail().await;
    assert!(kept.contains("This links you to"), "it holds the mail");
    for code in [&given, &claim, &own, &by_slack] {
        for form in [code.clone(), code.replace('-', "")] {
            let found = kept.to_lowercase().contains(&form.to_lowercase());
            assert!(!found, "{code}");
        }
    }
    town.stop().await;
}

async fn admins_are_told_whose_answer_was_not_delivered_and_no_code(kind: Kind) {
    let people = format!(
        "[[people]]\nname = \"ada\"\nslack = \"{TEAM}/U1\"\nroles = [\"admin\"]\n\
         [[people]]\nname = \"bob\"\ntelegram = {BOB}\n"
    );
    let hang =
        "[[agent.fault]]\nturn = 1\nfault = \"timeout\"\n[[agent.reply]]\ntext = \"never\"\n";
    let town = Town::new(kind, hang, &people).await;
    town.tell(BOB, "Water the *plants*", "thinking").await;
    town.telegram.set_access(BOB, Access::Blocked);
    let task = town.tasks().await.remove(0).id;
    town.app.app.desk.cancel(task, "test").await.unwrap();
    let admin = town.slack.im("U1");
    town.reads(&admin, "bob's, could not be delivered to telegram")
        .await;
    town.reads(&admin, "It was to say: ⏹").await;
    let code = town.code("eve", &[Role::Member]).await;
    let word = NewOut {
        channel: "telegram".into(),
        key: "hello".into(),
        conversation: BOB.to_string(),
        body: serde_json::json!({ "text": format!("Write `/pair {code}` to me") }),
    };
    let (mail, tenant) = (town.app.app.store.mail(), town.app.app.tenant());
    assert!(mail.say(tenant, word).await.unwrap());
    town.reads(&admin, "A message could not be delivered").await;
    town.reads(&admin, "/pair [code]").await;
    let said = town.slack.from_bot(&admin);
    assert!(said.iter().all(|message| !message.text.contains(&code)));
    town.stop().await;
}

async fn codes_are_neither_given_nor_taken_where_others_read_along(kind: Kind) {
    let ada = format!("[[people]]\nname = \"ada\"\ntelegram = {ADA}\nslack = \"{TEAM}/U1\"\n");
    let town = Town::new(kind, &reply("never"), &ada).await;
    town.telegram.add_group(CREW, "Crew");
    town.telegram.mentions(CREW, ADA, "/pair");
    town.hears(CREW, "Others read along here").await;
    let code = town.code("eve", &[Role::Member]).await;
    town.telegram.mentions(CREW, EVE, &format!("/pair {code}"));
    town.hears(CREW, "this code is good no more").await;
    town.tell(BOB, &format!("/pair {code}"), "No such code is good")
        .await;
    let code = town.code("eve", &[Role::Member]).await;
    town.slack.add_channel("C1", "general", &["U1", "U2"]);
    town.slack.slash("C1", "U1", "/majordomo", "pair");
    town.reads(
        &town.slack.im("U1"),
        "Write this to me from your other chat",
    )
    .await;
    town.slack
        .slash("C1", "U2", "/majordomo", &format!("pair {code}"));
    town.reads(&town.slack.im("U2"), "This links you to *eve*")
        .await;
    assert_eq!(town.slack.sent("C1"), 0, "nobody else sees a code");
    assert!(
        !town
            .telegram
            .from_bot(CREW)
            .iter()
            .any(|m| m.text.contains("links"))
    );
    town.stop().await;
}

async fn whoever_guesses_is_not_listened_to_any_more(kind: Kind) {
    let town = Town::new(kind, &reply("never"), "").await;
    let code = town.code("ada", &[Role::Member]).await;
    for _ in 0..4 {
        town.telegram.user_says(EVE, EVE, "/pair 0000-0000-0000");
    }
    town.tell(EVE, "/pair nonsense", "one wrong code too many")
        .await;
    let said = town.telegram.sent(EVE);
    assert_eq!(said, 5);
    town.telegram.user_says(EVE, EVE, &format!("/pair {code}"));
    town.telegram.user_says(EVE, EVE, "/claim 0000-0000-0000");
    town.tell(ADA, &format!("/pair {code}"), "This links you to ada")
        .await;
    town.settled().await;
    assert_eq!(town.telegram.sent(EVE), said, "silence");
    town.stop().await;
}

async fn the_first_admin_is_whoever_shows_the_code_of_this_start(kind: Kind) {
    let town = Town::new(kind, &reply("never"), "").await;
    let people = town.app.app.people.clone();
    let claim = async || people.offer_claim().await.unwrap().unwrap().0.expose();
    let (before, now) = (claim().await, claim().await);
    let person = Person {
        username: Some("Ada".into()),
        ..Person::unknown(ADA)
    };
    town.telegram.set_person(person);
    town.tell(ADA, &format!("/claim {before}"), "No such code is good")
        .await;
    let linked = town
        .tell(ADA, &format!("/claim {now}"), "This links you to ada")
        .await;
    assert!(linked.contains("admin"), "{linked}");
    town.tell(EVE, &format!("/claim {now}"), "There is an admin already")
        .await;
    assert!(people.offer_claim().await.unwrap().is_none());
    let admins = people.admins().await.unwrap();
    assert_eq!(admins.len(), 1);
    assert_eq!(admins[0].to_string(), format!("telegram:{ADA}"));
    people.remove("ada").await.unwrap();
    // A command in Slack says what its author is called.
    town.slack.add_channel("C1", "general", &["U1"]);
    town.slack.add_user("U1", "grace");
    let code = claim().await;
    town.slack
        .slash("C1", "U1", "/majordomo", &format!("claim {code}"));
    town.reads(&town.slack.im("U1"), "This links you to *grace*")
        .await;
    assert_eq!(town.slack.sent("C1"), 0, "nobody else sees a code");
    let admins = people.admins().await.unwrap();
    assert_eq!(admins[0].to_string(), format!("slack:{TEAM}/U1"));
    town.stop().await;
}

async fn whoever_is_unlinked_is_a_stranger_from_then_on(kind: Kind) {
    let hang =
        "[[agent.fault]]\nturn = 1\nfault = \"timeout\"\n[[agent.reply]]\ntext = \"never\"\n";
    let town = Town::new(kind, hang, "").await;
    let people = town.app.app.people.clone();
    let code = town.code("ada", &[Role::Member]).await;
    town.tell(ADA, &format!("/pair {code}"), "This links you")
        .await;
    town.tell(ADA, "First", "thinking").await;
    town.tell(ADA, "Second", "I begin with this when").await;
    let removed = people.remove("ada").await.unwrap();
    assert_eq!((removed.links.len(), removed.configured), (1, false));
    let first = town.tasks().await.remove(0).id;
    assert!(town.app.app.desk.cancel(first, "test").await.unwrap());
    town.tell(ADA, "Third", "I do not know you yet").await;
    town.settled().await;
    assert_eq!(town.tasks().await.len(), 1, "what waited never began");
    let again = people.remove(&format!("telegram:{ADA}")).await.unwrap();
    assert!(again.links.is_empty());
    town.stop().await;
}

async fn what_waited_of_whoever_was_unlinked_ends_with_a_word(kind: Kind) {
    let hang =
        "[[agent.fault]]\nturn = 1\nfault = \"timeout\"\n[[agent.reply]]\ntext = \"never\"\n";
    let town = Town::new(kind, hang, "").await;
    let fake = &town.telegram;
    let people = town.app.app.people.clone();
    for (user, name) in [(ADA, "ada"), (BOB, "bob"), (EVE, "eve")] {
        // They were turned away today before they became known.
        town.tell(user, "Hello", "I do not know you yet").await;
        let code = town.code(name, &[Role::Member]).await;
        town.tell(user, &format!("/pair {code}"), "This links you")
            .await;
    }
    // What ada wrote waits for its turn, twice; what bob and eve wrote is old, and waits for their word.
    town.tell(ADA, "First", "thinking").await;
    town.tell(ADA, "Second", "I begin with this when").await;
    fake.user_says(ADA, ADA, "Third");
    let hours_ago = shared::clock::now().0 / 1000 - 3 * 3600;
    for user in [BOB, EVE] {
        fake.says(Say {
            date: Some(hours_ago),
            ..Say::new(user, user, "Late")
        });
        town.hears(user, "Shall I still do it?").await;
    }
    for name in ["ada", "bob", "eve"] {
        assert_eq!(people.remove(name).await.unwrap().links.len(), 1);
    }
    let first = town.tasks().await.remove(0).id;
    assert!(town.app.app.desk.cancel(first, "test").await.unwrap());
    for (user, button) in [(BOB, 0), (EVE, 1)] {
        let mut messages = fake.from_bot(user).into_iter();
        let question = messages.find(|m| m.text.contains("Shall I")).unwrap();
        let data = question.keyboard.unwrap()[0][button]["callback_data"].clone();
        for _ in 0..2 {
            fake.press(user, question.id, user, data.as_str().unwrap());
        }
    }
    for user in [ADA, BOB, EVE] {
        town.hears(user, "I do not know you any more").await;
    }
    town.settled().await;
    for user in [ADA, BOB, EVE] {
        let messages = fake.from_bot(user);
        let told = messages.iter().filter(|m| m.text.contains("any more"));
        assert_eq!(told.count(), 1, "{messages:#?}");
    }
    assert_eq!(town.tasks().await.len(), 1);
    let mail = town.app.app.store.mail();
    for user in [ADA, BOB, EVE] {
        let chat = user.to_string();
        let open = mail.open_in(town.app.app.tenant(), "telegram", &chat, 9);
        assert!(open.await.unwrap().is_empty(), "nothing is left open");
    }
    town.stop().await;
}

async fn names_change_hands_and_change_nothing(kind: Kind) {
    let town = Town::new(kind, &reply("Done."), "").await;
    let named = |id: i64, username: Option<&str>| Person {
        username: username.map(str::to_owned),
        ..Person::unknown(id)
    };
    town.telegram.set_person(named(ADA, Some("ada")));
    let code = town.code("ada", &[Role::Member]).await;
    town.tell(ADA, &format!("/pair {code}"), "This links you")
        .await;
    town.telegram.set_person(named(ADA, None));
    town.telegram.set_person(named(EVE, Some("ada")));
    town.tell(EVE, "Do it", "I do not know you yet").await;
    town.tell(ADA, "Do it", "Done.").await;
    assert_eq!(town.tasks().await.len(), 1);
    town.stop().await;
}

async fn members_of_a_telegram_group_may_until_they_leave(kind: Kind) {
    let grant = format!("[[grants]]\ntelegram_group = {CREW}\n");
    let town = Town::new(kind, &reply("Done."), &grant).await;
    let fake = &town.telegram;
    fake.add_group(CREW, "Crew");
    fake.set_standing(CREW, ADA, Standing::Member);
    fake.set_standing(CREW, BOB, Standing::Restricted);
    fake.set_standing(CREW, EVE, Standing::RestrictedOutside);
    town.tell(EVE, "Let me in", "I do not know you yet").await;
    town.tell(ADA, "Do it", "Done.").await;
    town.tell(BOB, "Do it", "Done.").await;
    let tasks = town.tasks().await;
    assert_eq!(tasks[1].principal.as_str(), format!("telegram:{ADA}"));
    let remove = async |id: i64| {
        let removed = town.app.app.people.remove(&format!("telegram:{id}")).await;
        removed.unwrap()
    };
    let removed = remove(ADA).await;
    assert!(removed.links.is_empty());
    let why = removed.still_known().expect("a group lets them in");
    assert!(why.contains(&format!("group {CREW} lets them in")), "{why}");
    assert_eq!(remove(EVE).await.still_known(), None);
    town.tell(ADA, "/pair", "I know you here by your group alone")
        .await;
    let asked = fake.calls_of("getChatMember").len();
    town.tell(ADA, "/status", "Nothing is going on").await;
    assert_eq!(
        fake.calls_of("getChatMember").len(),
        asked,
        "it is remembered"
    );
    fake.set_standing(CREW, ADA, Standing::Left);
    town.app.app.people.age(TEN_MINUTES);
    town.tell(ADA, "Do it again", "I do not know you yet").await;
    town.settled().await;
    assert_eq!(town.tasks().await.len(), 2);
    town.stop().await;
}

async fn nothing_runs_for_whom_the_far_side_says_nothing(kind: Kind) {
    let grant = format!("[[grants]]\ntelegram_group = {CREW}\n");
    let replies = ["Done.", "Twice."].map(reply).concat();
    let town = Town::new(kind, &replies, &grant).await;
    let fake = &town.telegram;
    fake.add_group(CREW, "Crew");
    fake.set_standing(CREW, ADA, Standing::Member);
    fake.fail_next("getChatMember", FailHow::Error500);
    town.tell(ADA, "Do it", "I cannot find out just now").await;
    assert!(town.tasks().await.is_empty());
    town.tell(ADA, "Do it", "Done.").await;
    // For some minutes more it counts what was found out last, and then nothing does.
    town.app.app.people.age(TEN_MINUTES / 2);
    fake.fail_next("getChatMember", FailHow::Error500);
    fake.fail_next("getChatMember", FailHow::Error500);
    town.tell(ADA, "Once more", "Twice.").await;
    let tasks = async || town.tasks().await.len();
    town.app.app.people.age(TEN_MINUTES);
    fake.fail_next("getChatMember", FailHow::BadGateway);
    fake.user_says(ADA, ADA, "And again");
    town.settled().await;
    assert_eq!(tasks().await, 2);
    // The bot sees no members of a group that it was thrown out of: nobody is told to wait for that.
    fake.kick(CREW);
    town.tell(ADA, "And again", "I do not know you yet").await;
    town.tell(EVE, "Let me in", "I do not know you yet").await;
    assert_eq!(tasks().await, 2);
    town.stop().await;
}

async fn members_of_slack_groups_may_until_they_leave(kind: Kind) {
    let grants = format!(
        "[[grants]]\nslack_workspace = \"{TEAM}\"\n\
         [[grants]]\nslack_user_group = \"{TEAM}/S1\"\nroles = [\"approver\"]\n\
         [[grants]]\nslack_channel = \"{TEAM}/C7\"\nroles = [\"member\"]\n"
    );
    let town = Town::new(kind, &reply("Done."), &grants).await;
    let fake = &town.slack;
    fake.set_group("S1", &["U1"]);
    let crowd: Vec<String> = (0..1_200).map(|n| format!("U0{n:04}")).collect();
    let mut crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    crowd.push("U9GUEST");
    fake.add_channel("C7", "crew", &crowd);
    for (user, name) in [
        ("U1", "ada"),
        ("U2", "bob"),
        ("U3", "eve"),
        ("U5", "mallory"),
    ] {
        fake.add_user(user, name);
    }
    for guest in ["U3", "U9GUEST"] {
        fake.restrict_user(guest);
    }
    fake.set_team("U5", "T9ELSEWHERE");
    fake.set_member("C7", "U5", true);
    town.write("U1", "Do it", "Done.").await;
    let who = async |id: &str| {
        let all = town.app.app.people.everybody().await.unwrap();
        let found = all
            .into_iter()
            .find(|entry| entry.id == format!("{TEAM}/{id}"));
        found.map(|entry| entry.roles)
    };
    assert_eq!(who("U1").await, Some(vec![Role::Member, Role::Approver]));
    town.write("U9GUEST", "Do it", "Done.").await;
    town.write("U3", "Do it", "I do not know you yet").await;
    town.write("U5", "Do it", "I do not know you yet").await;
    assert!(
        fake.calls_of("conversations.members").len() >= 2,
        "by pages"
    );
    fake.deactivate_user("U1");
    fake.set_member("C7", "U9GUEST", false);
    town.app.app.people.age(TEN_MINUTES);
    town.write("U1", "Do it again", "I do not know you yet")
        .await;
    town.write("U9GUEST", "Do it again", "I do not know you yet")
        .await;
    assert_eq!(town.tasks().await.len(), 2);
    // What passes is told as such; what lasts until somebody mends it makes nobody wait.
    fake.fail_next("users.info", FailHow::Error500);
    fake.fail_next("users.info", FailHow::Error500);
    fake.fail_next("users.info", FailHow::Error500);
    town.write("U2", "Do it", "I cannot find out just now")
        .await;
    fake.configure(|settings| settings.scopes.retain(|scope| scope != "users:read"));
    town.write("U2", "Do it", "I do not know you yet").await;
    town.stop().await;
}

async fn a_task_is_stopped_by_whoever_asked_for_it_or_an_admin(kind: Kind) {
    let hang =
        "[[agent.fault]]\nturn = 1\nfault = \"timeout\"\n[[agent.reply]]\ntext = \"never\"\n";
    let people = format!(
        "[[people]]\nname = \"ada\"\ntelegram = {ADA}\n\
         [[people]]\nname = \"bob\"\ntelegram = {BOB}\nroles = [\"admin\"]\n\
         [[people]]\nname = \"eve\"\ntelegram = {EVE}\nroles = [\"member\", \"approver\"]\n"
    );
    let town = Town::new(kind, hang, &people).await;
    let fake = &town.telegram;
    fake.add_group(CREW, "Crew");
    fake.mentions(CREW, ADA, "Do it");
    town.hears(CREW, "thinking").await;
    let stop = |user| {
        let text = format!("/stop@{}", fake.bot_username());
        fake.says(Say::new(CREW, user, text))
    };
    stop(EVE);
    town.hears(CREW, "Asked for by others, and left alone: 1")
        .await;
    assert!(!town.tasks().await[0].state.is_final());
    stop(BOB);
    town.hears(CREW, "Stopped: 1.").await;
    town.stop().await;
}
