//! The mail of both stores: what comes in is there once and in order; what is owed is sent by whoever
//! holds the duty, and by nobody else.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use majordomo_tests::engine::{new_task, tenant};
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use shared::id::{TaskId, WorkerId};
use shared::run::Timestamp;
use shared::store::{
    Accepted, Again, Conversation, Cursor, Duty, MailState, NewMail, NewOut, OutState, Store, duty,
};

on_both_stores!(
    what_comes_twice_is_there_once_and_in_order,
    whoever_lost_the_duty_moves_no_cursor_and_records_nothing,
    a_message_is_handled_once,
    a_task_is_taken_in_together_with_the_card_that_it_owes,
    what_is_settled_about_a_conversation_is_kept,
    old_mail_is_forgotten_and_what_is_owed_never,
    a_task_made_anew_is_shown_where_the_first_was,
);

fn mail(key: &str, conversation: &str) -> NewMail {
    NewMail {
        channel: "telegram",
        key: key.into(),
        conversation: conversation.into(),
        body: json!({"text": key, "odd": "a\u{0}b"}),
    }
}

fn word(key: &str) -> NewOut {
    NewOut {
        channel: "telegram".into(),
        key: key.into(),
        conversation: "7".into(),
        body: json!({"text": key}),
    }
}

async fn on_duty(store: &Arc<dyn Store>) -> Duty {
    let worker = WorkerId::fresh();
    store.register(worker, None).await.unwrap();
    let duty = store.hold(duty::TELEGRAM, worker).await.unwrap();
    duty.expect("nobody else has it")
}

fn at(position: i64, duty: &Duty) -> Option<(Cursor, Duty)> {
    let cursor = Cursor {
        account: "telegram/1".into(),
        position,
    };
    Some((cursor, duty.clone()))
}

async fn what_comes_twice_is_there_once_and_in_order(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let (duty, mails) = (on_duty(&store).await, store.mail());
    let mut bell = store.bell().mail();
    bell.mark_unchanged();
    assert_eq!(mails.position(&tenant(), "telegram/1").await.unwrap(), None);
    let first = vec![mail("1", "7"), mail("2", "8"), mail("1", "7")];
    let received = mails.receive(&tenant(), first, at(3, &duty)).await.unwrap();
    assert_eq!(received, Some(2));
    assert!(bell.has_changed().unwrap());
    let again = vec![mail("2", "8"), mail("3", "7")];
    let received = mails.receive(&tenant(), again, at(4, &duty)).await.unwrap();
    assert_eq!(received, Some(1));
    let position = mails.position(&tenant(), "telegram/1").await.unwrap();
    assert_eq!(position, Some(4));
    let unread = mails.unread(&tenant(), "telegram", 0, 10).await.unwrap();
    let keys: Vec<&str> = unread.iter().map(|mail| mail.key.as_str()).collect();
    assert_eq!(keys, ["1", "2", "3"]);
    assert!(unread[0].body["odd"].as_str().unwrap().starts_with('a'));
    let rest = mails.unread(&tenant(), "telegram", unread[0].seq, 1).await;
    assert_eq!(rest.unwrap(), unread[1..2]);
    assert!(
        mails
            .unread(&tenant(), "slack", 0, 9)
            .await
            .unwrap()
            .is_empty()
    );
    let other = "other".into();
    assert!(
        mails
            .unread(&other, "telegram", 0, 9)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn whoever_lost_the_duty_moves_no_cursor_and_records_nothing(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let (late, mails) = (on_duty(&store).await, store.mail());
    assert!(mails.say(&tenant(), word("hello")).await.unwrap());
    place.lapse().await;
    let now = on_duty(&store).await;
    assert!(now.epoch > late.epoch);
    let received = mails
        .receive(&tenant(), vec![mail("1", "7")], at(9, &late))
        .await;
    assert_eq!(received.unwrap(), None);
    assert_eq!(mails.position(&tenant(), "telegram/1").await.unwrap(), None);
    assert!(
        mails
            .unread(&tenant(), "telegram", 0, 9)
            .await
            .unwrap()
            .is_empty()
    );
    let owed = mails.owed(&tenant(), "telegram", 0, 9).await.unwrap();
    let record = async |duty: &Duty, far: &[String], state: OutState| {
        mails
            .record(duty, owed[0].seq, (far, 0), state)
            .await
            .unwrap()
    };
    let far = ["17".to_owned()];
    assert!(!record(&late, &far, OutState::Sent).await);
    assert!(record(&now, &far, OutState::Owed(Timestamp(5))).await);
    let owed = mails.owed(&tenant(), "telegram", 0, 9).await.unwrap();
    assert_eq!(
        (&owed[0].far[..], owed[0].not_before),
        (&far[..], Timestamp(5))
    );
    assert!(record(&now, &far, OutState::Sent).await);
    assert!(!record(&now, &far, OutState::Sent).await, "once");
    assert!(
        mails
            .owed(&tenant(), "telegram", 0, 9)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_message_is_handled_once(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let (duty, mails) = (on_duty(&store).await, store.mail());
    let received = mails.receive(&tenant(), vec![mail("1", "7")], None).await;
    assert_eq!(received.unwrap(), Some(1));
    let find = async || {
        mails
            .find(&tenant(), "telegram", "1")
            .await
            .unwrap()
            .unwrap()
    };
    let seq = find().await.seq;
    let by = async |duty: &Duty, from, to| {
        let tenant = tenant();
        let settled = mails.settle(duty, &tenant, seq, (from, to));
        settled.await.unwrap()
    };
    let settle = async |from, to| by(&duty, from, to).await.unwrap();
    use MailState::{Done, Held, New, Wanted};
    let open = async || {
        let unread = mails.unread(&tenant(), "telegram", 0, 9).await;
        unread.unwrap().len()
    };
    assert!(settle(New, Held).await);
    assert!(!settle(New, Done).await);
    assert_eq!(open().await, 0);
    let open_in = async |conversation| {
        let open = mails.open_in(&tenant(), "telegram", conversation, 9).await;
        open.unwrap().len()
    };
    assert_eq!((open_in("7").await, open_in("8").await), (1, 0));
    assert!(settle(Held, Wanted).await);
    assert_eq!(open().await, 1);
    assert!(settle(Wanted, Done).await);
    assert!(!settle(Wanted, Done).await);
    assert_eq!((find().await.state, open_in("7").await), (Done, 0));
    place.lapse().await;
    on_duty(&store).await;
    assert_eq!(by(&duty, Done, New).await, None, "the duty is another's");
    assert_eq!(find().await.state, Done);
    assert!(mails.say(&tenant(), word("once")).await.unwrap());
    assert!(!mails.say(&tenant(), word("once")).await.unwrap());
    assert_eq!(
        mails.owed(&tenant(), "telegram", 0, 9).await.unwrap().len(),
        1
    );
}

async fn a_task_is_taken_in_together_with_the_card_that_it_owes(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let (duty, mails) = (on_duty(&store).await, store.mail());
    let mut task = new_task("x");
    task.card = Some(word("card"));
    task.dedupe = Some(("update/1".into(), shared::hash::Hash::of_bytes(b"x")));
    let again = task.clone();
    let Accepted::New(id) = store.accept(task).await.unwrap() else {
        panic!("new")
    };
    assert_eq!(store.accept(again).await.unwrap(), Accepted::Known(id));
    let carded = async |key| mails.carded(&tenant(), "telegram", key).await.unwrap();
    assert_eq!(
        (carded("card").await, carded("other").await),
        (Some(id), None)
    );
    let owed = mails.owed(&tenant(), "telegram", 0, 9).await.unwrap();
    assert_eq!((owed.len(), owed[0].task), (1, Some(id)));
    let gone = OutState::Dead("the chat is gone".into());
    assert!(
        mails
            .record(&duty, owed[0].seq, (&[], 3), gone)
            .await
            .unwrap()
    );
    let (card, state) = mails.card(&tenant(), id).await.unwrap().unwrap();
    assert_eq!((card.task, state.as_str()), (Some(id), "dead"));
    assert_eq!(mails.revive(&tenant(), "telegram").await.unwrap(), 1);
    assert_eq!(
        mails.owed(&tenant(), "telegram", 0, 9).await.unwrap().len(),
        1
    );
}

async fn old_mail_is_forgotten_and_what_is_owed_never(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let (late, mails) = (on_duty(&store).await, store.mail());
    let both = vec![mail("open", "7"), mail("done", "7")];
    mails.receive(&tenant(), both, None).await.unwrap();
    let done = mails.find(&tenant(), "telegram", "done").await.unwrap();
    let states = (MailState::New, MailState::Done);
    let whose = tenant();
    let settled = mails.settle(&late, &whose, done.unwrap().seq, states);
    assert_eq!(settled.await.unwrap(), Some(true));
    for key in ["owed", "sent", "dead"] {
        mails.say(&tenant(), word(key)).await.unwrap();
    }
    let owed = mails.owed(&tenant(), "telegram", 0, 9).await.unwrap();
    let gone = OutState::Dead("gone".into());
    for (out, state) in owed[1..].iter().zip([OutState::Sent, gone]) {
        assert!(mails.record(&late, out.seq, (&[], 0), state).await.unwrap());
    }
    let forget = async |duty: &Duty, age_s, limit| {
        let forgotten = mails.forget_mail(duty, Duration::from_secs(age_s), limit);
        forgotten.await.unwrap()
    };
    assert_eq!(forget(&late, 3_600, 9).await, Some(0), "it is young");
    place.lapse().await;
    let now = on_duty(&store).await;
    assert_eq!(forget(&late, 0, 9).await, None);
    assert_eq!(forget(&now, 0, 1).await, Some(2), "one each way");
    assert_eq!(forget(&now, 0, 9).await, Some(1));
    assert_eq!(forget(&now, 0, 9).await, Some(0));
    let owed = mails.owed(&tenant(), "telegram", 0, 9).await.unwrap();
    let unread = mails.unread(&tenant(), "telegram", 0, 9).await.unwrap();
    assert_eq!((owed[0].key.as_str(), owed.len()), ("owed", 1));
    assert_eq!((unread[0].key.as_str(), unread.len()), ("open", 1));
}

async fn a_task_made_anew_is_shown_where_the_first_was(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let mails = store.mail();
    let mut task = new_task("x");
    task.card = Some(word("card"));
    let Accepted::New(id) = store.accept(task).await.unwrap() else {
        panic!("new")
    };
    store.cancel(&tenant(), id, "enough", None).await.unwrap();
    let again = Again {
        tenant: tenant(),
        of: id,
        id: TaskId::fresh(),
        by: "ada".into(),
    };
    let mut bell = store.bell().mail();
    bell.mark_unchanged();
    store.retry(again.clone()).await.unwrap();
    assert!(bell.has_changed().unwrap());
    let (card, state) = mails.card(&tenant(), again.id).await.unwrap().unwrap();
    assert_eq!((card.conversation.as_str(), state.as_str()), ("7", "owed"));
    assert_eq!(card.body, word("card").body);
}

async fn what_is_settled_about_a_conversation_is_kept(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let (duty, mails) = (on_duty(&store).await, store.mail());
    let get = async || {
        mails
            .conversation(&tenant(), "telegram", "7")
            .await
            .unwrap()
    };
    assert_eq!(get().await, Conversation::default());
    for agent in [Some("writer"), None] {
        let settled = Conversation {
            agent: agent.map(Into::into),
            since: Timestamp(9),
        };
        let tenant = tenant();
        let set = mails.set_conversation(&duty, (&tenant, "telegram"), "7", settled.clone());
        assert!(set.await.unwrap());
        assert_eq!(get().await, settled);
    }
    place.lapse().await;
    on_duty(&store).await;
    let (tenant, late) = (tenant(), Conversation::default());
    let set = mails.set_conversation(&duty, (&tenant, "telegram"), "7", late);
    assert!(!set.await.unwrap());
    assert_eq!(get().await.since, Timestamp(9));
}
