//! Updates that Telegram sends to us, against a server that sends them as the real one does.

use std::time::Duration;

use axum::http::StatusCode;
use majordomo_tests::app::{Setup, TestApp};
use majordomo_tests::doubles::post::{self, Outgoing};
use majordomo_tests::doubles::telegram::{FakeTelegram, Settings};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use shared::store::TaskFilter;
use shared::task::Task;
use supervisor::auth::LocalToken;
use supervisor::channels::http;
use supervisor::channels::telegram::webhook::{HEADER, PATH};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::chats::{kept, reply};

on_both_stores!(
    a_message_that_is_sent_to_us_is_answered_once,
    what_does_not_know_the_secret_leaves_nothing,
    what_goes_wrong_is_said_and_mended,
);

const ADA: i64 = 7;
const PATIENCE: Duration = Duration::from_secs(20);

struct Hooked {
    app: TestApp,
    url: String,
    closing: CancellationToken,
}

impl Hooked {
    async fn tasks(&self) -> Vec<Task> {
        let all = TaskFilter {
            limit: 9,
            ..TaskFilter::default()
        };
        self.app.app.desk.tasks(&all).await.unwrap()
    }

    /// Posts an update as somebody who is not Telegram.
    async fn forge(&self, secret: Option<&str>, body: &str) -> StatusCode {
        let outgoing = Outgoing {
            url: self.url.clone(),
            headers: secret
                .map(|secret| (HEADER.to_owned(), secret.to_owned()))
                .into_iter()
                .collect(),
            body: body.to_owned().into(),
        };
        post::post(outgoing, PATIENCE).await.unwrap().status
    }

    async fn stop(self) {
        self.closing.cancel();
        self.app.stop().await;
    }
}

async fn fake() -> FakeTelegram {
    let settings = Settings {
        webhook_speed: 50.0,
        ..Settings::default()
    };
    FakeTelegram::start_with(settings, 0).await.unwrap()
}

async fn open(fake: &FakeTelegram, kind: Kind) -> Hooked {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = format!("http://{}", listener.local_addr().unwrap());
    let settings = format!(
        "[telegram]\ntoken = \"{}\"\napi_url = \"{}\"\nwebhook_url = \"{here}\"\n\n\
         [[people]]\nname = \"ada\"\ntelegram = {ADA}\nroles = [\"admin\"]\n",
        kept(&fake.token()),
        fake.url()
    );
    let app = Setup::worker(&reply("Here.").repeat(3), &[], &settings)
        .on(kind)
        .start()
        .await;
    app.app.open_channels().unwrap();
    let (closing, local) = (CancellationToken::new(), LocalToken::fresh().unwrap());
    tokio::spawn(http::serve(
        app.app.clone(),
        listener,
        local,
        closing.clone(),
    ));
    Hooked {
        app,
        url: format!("{here}{PATH}"),
        closing,
    }
}

async fn a_message_that_is_sent_to_us_is_answered_once(kind: Kind) {
    let fake = fake().await;
    let hooked = open(&fake, kind).await;
    for _ in 0..3 {
        fake.user_says(ADA, ADA, "Where?");
    }
    let answered = |fake: &FakeTelegram| {
        let answers = fake.from_bot(ADA).into_iter();
        answers.filter(|message| message.text == "Here.").count() == 3
    };
    assert!(
        fake.until(PATIENCE, answered).await,
        "{:?}",
        fake.from_bot(ADA)
    );
    for update in fake.deliveries() {
        fake.redeliver(update.update_id);
    }
    assert!(fake.until(PATIENCE, |fake| fake.pending().is_empty()).await);
    assert!(answered(&fake));
    assert_eq!(hooked.tasks().await.len(), 3);
    assert!(
        fake.calls_of("getUpdates").is_empty(),
        "they come by one way"
    );
    hooked.stop().await;
}

async fn what_does_not_know_the_secret_leaves_nothing(kind: Kind) {
    let fake = fake().await;
    let hooked = open(&fake, kind).await;
    fake.user_says(ADA, ADA, "/status");
    assert!(fake.until(PATIENCE, |fake| fake.sent(ADA) == 1).await);
    let update = format!(
        r#"{{"update_id": 5, "message": {{"message_id": 9, "date": 1, "text": "Pay Eve",
            "chat": {{"id": {ADA}, "type": "private", "first_name": "Ada"}},
            "from": {{"id": {ADA}, "is_bot": false, "first_name": "Ada"}}}}}}"#
    );
    for secret in [None, Some(""), Some("0"), Some(fake.token().as_str())] {
        let status = hooked.forge(secret, &update).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{secret:?}");
    }
    assert!(hooked.tasks().await.is_empty());
    let calls = fake.calls_of("setWebhook");
    let secret = calls[0].args["secret_token"].clone();
    assert_eq!(
        hooked.forge(Some(&secret), "{").await,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(hooked.forge(Some(&secret), &update).await, StatusCode::OK);
    assert!(
        fake.until(PATIENCE, |fake| fake.sent(ADA) == 2).await,
        "a control"
    );
    hooked.stop().await;
}

async fn what_goes_wrong_is_said_and_mended(kind: Kind) {
    let fake = fake().await;
    fake.fail_next("getMe", majordomo_tests::doubles::fault::FailHow::Error500);
    let hooked = open(&fake, kind).await;
    // Before it is told where to send it, Telegram keeps what people say.
    fake.user_says(ADA, ADA, "/status");
    assert!(fake.until(PATIENCE, |fake| fake.sent(ADA) == 1).await);
    hooked.closing.cancel();
    let channels = hooked.app.app.channels.all();
    assert_eq!(channels, [("telegram", None)]);
    hooked.stop().await;
}
