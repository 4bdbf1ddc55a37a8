//! Identities of both stores: a code is good once, for its time, and for one of those who show it.

use std::sync::Arc;
use std::time::Duration;

use majordomo_tests::engine::tenant;
use majordomo_tests::on_both_stores;
use majordomo_tests::place::Kind;
use shared::config::Role;
use shared::hash::Hash;
use shared::store::{
    Attempt, Identity, MISSES, MISSES_WITHIN, NewCode, Purpose, Redeemed, Store, Whose,
};

on_both_stores!(
    a_code_links_whoever_shows_it_once,
    of_two_who_show_one_code_one_is_linked,
    a_code_is_good_for_its_time,
    wrong_codes_are_counted_by_sender_and_only_for_a_while,
    a_claim_is_replaced_by_the_next_and_names_whoever_shows_it,
    what_is_unlinked_is_gone_with_its_codes,
);

const TEN_MINUTES: Duration = Duration::from_secs(600);

fn hash(code: &str) -> Hash {
    Hash::of_bytes(code.as_bytes())
}

fn code(text: &str, purpose: Purpose) -> NewCode {
    NewCode {
        hash: hash(text),
        purpose,
        principal: "ada".into(),
        roles: vec![Role::Member, Role::Approver],
        label: "Ada's phone".into(),
        made_by: "local".into(),
        lasts: TEN_MINUTES,
    }
}

fn shows(id: &str, key: &str, text: &str) -> Attempt {
    Attempt {
        identity: identity(id),
        key: key.into(),
        hash: hash(text),
        claims: None,
    }
}

fn identity(id: &str) -> Identity {
    Identity {
        channel: "telegram".into(),
        id: id.into(),
    }
}

async fn offer(store: &Arc<dyn Store>, code: NewCode) {
    let until = store.identities().offer(&tenant(), code).await.unwrap();
    assert!(until.since(store.now()) <= TEN_MINUTES + Duration::from_secs(5));
}

async fn redeem(store: &Arc<dyn Store>, attempt: Attempt) -> Redeemed {
    let identities = store.identities();
    identities.redeem(&tenant(), attempt).await.unwrap()
}

fn is_linked(redeemed: &Redeemed) -> bool {
    matches!(redeemed, Redeemed::Linked(_))
}

async fn a_code_links_whoever_shows_it_once(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    offer(&store, code("abc", Purpose::Pair)).await;
    let linked = redeem(&store, shows("7", "m1", "abc")).await;
    let Redeemed::Linked(link) = &linked else {
        panic!("{linked:?}")
    };
    assert_eq!(
        (link.principal.as_str(), &link.label[..], link.origin),
        ("ada", "Ada's phone", Purpose::Pair)
    );
    assert_eq!(link.roles, [Role::Member, Role::Approver]);
    let again = redeem(&store, shows("7", "m1", "abc")).await;
    assert_eq!(again, linked, "the same message is the same attempt");
    let other = redeem(&store, shows("7", "m2", "abc")).await;
    assert_eq!(other, Redeemed::Taken(link.clone()));
    let reused = redeem(&store, shows("8", "m3", "abc")).await;
    assert_eq!(reused, Redeemed::Wrong { left: MISSES - 1 });
    let identities = store.identities();
    let found = identities.link(&tenant(), &identity("7")).await.unwrap();
    assert_eq!(found.as_ref(), Some(link));
    let others = identities.link(&"other".into(), &identity("7")).await;
    assert_eq!(others.unwrap(), None, "another tenant's people are its own");
    let theirs = identities.links(&"other".into(), None).await.unwrap();
    assert!(theirs.is_empty());
}

async fn of_two_who_show_one_code_one_is_linked(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    for round in 0..8 {
        let text = format!("code {round}");
        offer(&store, code(&text, Purpose::Pair)).await;
        let attempts = (0..4).map(|n| {
            let (store, attempt) = (store.clone(), shows(&format!("{round}{n}"), "m", &text));
            tokio::spawn(async move { redeem(&store, attempt).await })
        });
        let mut linked = 0;
        for attempt in attempts.collect::<Vec<_>>() {
            linked += usize::from(is_linked(&attempt.await.unwrap()));
        }
        assert_eq!(linked, 1);
    }
    let links = store
        .identities()
        .links(&tenant(), Some(&"ada".into()))
        .await;
    assert_eq!(links.unwrap().len(), 8);
}

async fn a_code_is_good_for_its_time(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    offer(&store, code("late", Purpose::Pair)).await;
    offer(&store, code("in time", Purpose::Pair)).await;
    place.age_codes(Duration::from_secs(9 * 60)).await;
    assert!(is_linked(
        &redeem(&store, shows("7", "m1", "in time")).await
    ));
    place.age_codes(Duration::from_secs(61)).await;
    let late = redeem(&store, shows("8", "m2", "late")).await;
    assert_eq!(late, Redeemed::Wrong { left: MISSES - 1 });
}

async fn wrong_codes_are_counted_by_sender_and_only_for_a_while(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    offer(&store, code("right", Purpose::Pair)).await;
    for n in 0..MISSES {
        let left = MISSES - 1 - n;
        for _ in 0..2 {
            let wrong = redeem(&store, shows("7", &format!("m{n}"), "wrong")).await;
            assert_eq!(wrong, Redeemed::Wrong { left }, "a message counts once");
        }
    }
    let right = redeem(&store, shows("7", "right", "right")).await;
    assert_eq!(
        right,
        Redeemed::Silenced,
        "not even the right one is looked at"
    );
    assert!(is_linked(&redeem(&store, shows("8", "m", "right")).await));
    place.age_codes(MISSES_WITHIN).await;
    offer(&store, code("right again", Purpose::Pair)).await;
    let late = redeem(&store, shows("7", "later", "right again")).await;
    assert!(is_linked(&late), "{late:?}");
}

async fn a_claim_is_replaced_by_the_next_and_names_whoever_shows_it(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let claims = |id: &str, text: &str| Attempt {
        claims: Some("eve".into()),
        ..shows(id, text, text)
    };
    for text in ["first", "second"] {
        offer(&store, code(text, Purpose::Claim)).await;
    }
    offer(&store, code("pair", Purpose::Pair)).await;
    let void = redeem(&store, claims("7", "first")).await;
    assert!(matches!(void, Redeemed::Wrong { .. }), "{void:?}");
    for (id, attempt) in [("8", shows("8", "m", "second")), ("9", claims("9", "pair"))] {
        let wrong = redeem(&store, attempt).await;
        assert!(matches!(wrong, Redeemed::Wrong { .. }), "{id}: {wrong:?}");
    }
    let Redeemed::Linked(link) = redeem(&store, claims("7", "second")).await else {
        panic!("it is good")
    };
    assert_eq!(
        (link.principal.as_str(), link.origin),
        ("eve", Purpose::Claim)
    );
}

async fn what_is_unlinked_is_gone_with_its_codes(kind: Kind) {
    let place = kind.place().await;
    let store = place.open().await;
    let identities = store.identities();
    for id in ["7", "8", "9"] {
        offer(&store, code(id, Purpose::Pair)).await;
        assert!(is_linked(&redeem(&store, shows(id, "m", id)).await));
    }
    let unlink = async |whose| {
        let ended = identities.unlink(&tenant(), &whose).await.unwrap();
        let mut ids: Vec<String> = ended.into_iter().map(|link| link.identity.id).collect();
        ids.sort();
        ids
    };
    offer(&store, code("left over", Purpose::Own)).await;
    assert_eq!(unlink(Whose::Identity(identity("8"))).await, ["8"]);
    let wrong = redeem(&store, shows("8", "m2", "left over")).await;
    assert!(matches!(wrong, Redeemed::Wrong { .. }), "{wrong:?}");
    assert_eq!(unlink(Whose::Person("bob".into())).await, [""; 0]);
    assert_eq!(unlink(Whose::Person("ada".into())).await, ["7", "9"]);
    assert!(identities.links(&tenant(), None).await.unwrap().is_empty());
}
