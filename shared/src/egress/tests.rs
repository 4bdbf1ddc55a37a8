//! The gateway against real listeners on loopback: the oracle is a socket that nobody may connect
//! to. Every table has its negative control, an address that does connect once it is allowed.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Mutex;
use std::time::Duration;

use futures::future::BoxFuture;
use wiremock::matchers::{any, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::smtp::{ServerError, SmtpServer};
use super::*;
use crate::config::MailTls;

/// Answers from a table; each further question gets the next answer, the last one for ever.
#[derive(Default)]
struct Table(Mutex<HashMap<String, Vec<Vec<IpAddr>>>>);

impl Table {
    fn of(entries: &[(&str, &[&[&str]])]) -> Arc<Self> {
        let ips = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        let table = entries
            .iter()
            .map(|(host, answers)| ((*host).to_owned(), answers.iter().map(ips).collect()))
            .collect();
        Arc::new(Self(Mutex::new(table)))
    }
}

impl Lookup for Table {
    fn lookup(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let mut table = self.0.lock().unwrap();
        let answer = match table.get_mut(host.trim_end_matches('.')) {
            Some(answers) if answers.len() > 1 => Ok(answers.remove(0)),
            Some(answers) => Ok(answers[0].clone()),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
        };
        Box::pin(async move { answer })
    }
}

fn gateway(allow: &[&str], lookup: Arc<dyn Lookup>) -> Gateway {
    let allow_private = allow.iter().map(|entry| (*entry).to_owned()).collect();
    Gateway::with_lookup(&EgressSettings { allow_private }, lookup).unwrap()
}

fn request(url: &str) -> FetchRequest {
    FetchRequest {
        url: Url::parse(url).unwrap_or_else(|error| panic!("{url}: {error}")),
        max_bytes: 1000,
        timeout: Duration::from_secs(20),
        accept: "*/*",
    }
}

/// Listens on both loopback addresses, where there are two, and counts who came.
struct Oracle {
    listeners: Vec<TcpListener>,
    port: u16,
}

impl Oracle {
    fn new() -> Self {
        let v4 = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = v4.local_addr().unwrap().port();
        let mut listeners = vec![v4];
        listeners.extend(TcpListener::bind(("::1", port)));
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
        }
        Self { listeners, port }
    }

    /// A finished handshake stands in the queue before the client learns of it, so nobody has to
    /// be waited for.
    fn connections(&self) -> usize {
        self.listeners
            .iter()
            .map(|l| std::iter::from_fn(|| l.accept().ok()).count())
            .sum()
    }
}

#[rustfmt::skip]
/// Spellings of addresses that must not be reached; `{p}` is the oracle's port.
const FORBIDDEN: &[&str] = &[
    // loopback, in every way to write it
    "http://127.0.0.1:{p}/", "http://127.0.0.1.:{p}/", "http://127.1:{p}/", "http://127.0.1:{p}/",
    "http://127.255.255.254:{p}/", "http://2130706433:{p}/", "http://0x7f000001:{p}/",
    "http://0x7f.0.0.1:{p}/", "http://0X7F.0x0.0x0.0x1:{p}/", "http://0177.0.0.1:{p}/",
    "http://017700000001:{p}/", "http://0177.0.0.01:{p}/", "http://0x7f.1:{p}/",
    "http://00000177.1:{p}/", "http://127.0x1:{p}/", "http://%31%32%37.0.0.1:{p}/",
    "http://127%2e0%2e0%2e1:{p}/", "http://１２７.0.0.1:{p}/", "http://127。0。0。1:{p}/",
    "http://①②⑦.⓪.⓪.①:{p}/", "http:127.0.0.1:{p}/", "http:\\\\127.0.0.1:{p}\\", "HTTP://127.0.0.1:{p}/",
    "http:///127.0.0.1:{p}/", "http://\t127.0.0.1:{p}/", "http://127.0.0.1:{p}#@example.com/",
    "http://127.0.0.1:{p}?@example.com/", "https://127.0.0.1:{p}/",
    // unspecified
    "http://0.0.0.0:{p}/", "http://0:{p}/", "http://0x0:{p}/", "http://00:{p}/", "http://0.1.2.3:{p}/",
    // names for this machine
    "http://localhost:{p}/", "http://LOCALHOST:{p}/", "http://localhost.:{p}/", "http://a.localhost:{p}/",
    "http://ⓛocalhost:{p}/", "http://loc%61lhost:{p}/", "http://lo\u{ad}calhost:{p}/",
    // IPv6, and IPv4 inside it
    "http://[::1]:{p}/", "http://[0:0:0:0:0:0:0:1]:{p}/", "http://[0000::0001]:{p}/", "http://[::]:{p}/",
    "http://[::ffff:127.0.0.1]:{p}/", "http://[::ffff:7f00:1]:{p}/", "http://[0:0:0:0:0:ffff:127.0.0.1]:{p}/",
    "http://[::127.0.0.1]:{p}/", "http://[::ffff:0:127.0.0.1]:{p}/", "http://[64:ff9b::127.0.0.1]:{p}/",
    "http://[64:ff9b:1::7f00:1]:{p}/", "http://[2002:7f00:1::]:{p}/", "http://[2001:0:7f00:1::]:{p}/",
    "http://[fe80::1]:{p}/", "http://[fc00::1]:{p}/", "http://[fd00:ec2::254]/", "http://[ff02::1]:{p}/",
    "http://[::ffff:169.254.169.254]/", "http://[fec0::1]/", "http://[2001:db8::1]/",
    // private, metadata, carrier, multicast, reserved
    "http://10.0.0.1/", "http://10.1/", "http://172.16.0.1/", "http://172.31.255.255/", "http://192.168.1.1/",
    "http://192.168.257/", "http://169.254.169.254/latest/meta-data/", "http://2852039166/",
    "http://0xa9fea9fe/", "http://0251.0376.0251.0376/", "http://169.254.43518/", "http://168.63.129.16/",
    "http://100.100.100.200/", "http://100.64.0.1/", "http://192.0.0.192/", "http://198.18.0.1/",
    "http://224.0.0.1/", "http://239.255.255.250:1900/", "http://255.255.255.255/", "http://240.0.0.1/",
    // a user in front of it
    "http://example.com@127.0.0.1:{p}/", "http://user:word@public.example/", "http://:@127.0.0.1:{p}/",
    "http://127.0.0.1:{p}@public.example/", "http://public.example\\@127.0.0.1:{p}/",
    // other schemes
    "file:///etc/passwd", "gopher://127.0.0.1:{p}/_x", "ftp://127.0.0.1:{p}/", "ws://127.0.0.1:{p}/",
    "data:text/plain,x", "dict://127.0.0.1:{p}/", "javascript:alert(1)", "unix:/run/docker.sock",
    "ldap://127.0.0.1:{p}/", "jar:http://127.0.0.1:{p}/!/",
    // names that resolve to them
    "http://inward.example:{p}/", "http://inward.example.:{p}/", "http://metadata.example/",
    "http://mapped.example:{p}/", "http://six.example:{p}/", "http://several.example:{p}/",
];

#[tokio::test]
async fn no_spelling_of_a_forbidden_address_connects() {
    let oracle = Oracle::new();
    let lookup = Table::of(&[
        ("inward.example", &[&["127.0.0.1"]]),
        ("metadata.example", &[&["169.254.169.254"]]),
        ("mapped.example", &[&["::ffff:127.0.0.1"]]),
        ("six.example", &[&["::1"]]),
        ("several.example", &[&["10.0.0.1", "127.0.0.1", "::1"]]),
        // Everything that would be resolved by mistake leads to the oracle.
        ("localhost", &[&["127.0.0.1"]]),
        ("a.localhost", &[&["127.0.0.1"]]),
        ("public.example", &[&["127.0.0.1"]]),
    ]);
    let gateway = gateway(&[], lookup);
    assert!(FORBIDDEN.len() >= 60);
    for spelling in FORBIDDEN {
        let spelling = spelling.replace("{p}", &oracle.port.to_string());
        let failure = gateway
            .fetch(request(&spelling))
            .await
            .expect_err(&spelling);
        assert_eq!(failure.kind, FailureKind::Refused, "{spelling}: {failure}");
        assert!(!failure.may_have_happened, "{spelling}");
        assert_eq!(oracle.connections(), 0, "{spelling} connected");
    }
}

#[tokio::test]
async fn the_oracle_does_see_what_is_allowed() {
    let oracle = Oracle::new();
    let allowed = format!("127.0.0.1:{}", oracle.port);
    let gateway = gateway(&[&allowed], Table::of(&[]));
    for spelling in ["127.0.0.1", "0x7f.1", "2130706433"] {
        let mut request = request(&format!("http://{spelling}:{}/", oracle.port));
        request.timeout = Duration::from_millis(200);
        assert!(gateway.fetch(request).await.is_err(), "it never answers");
        assert_eq!(oracle.connections(), 1, "{spelling}");
    }
}

#[test]
fn legitimate_addresses_pass() {
    let allowed = AllowList::new(&["wiki.internal".into(), "10.0.0.7:8080".into()]).unwrap();
    #[rustfmt::skip]
    let legitimate = [
        "http://example.com/", "https://example.com/a?b=c#d", "https://EXAMPLE.com./",
        "https://bücher.example/", "https://xn--bcher-kva.example/", "https://example.com:8443/",
        "http://1.1.1.1/", "http://8.8.8.8:53/", "https://[2606:4700:4700::1111]/",
        "https://[2001:4860:4860::8888]/", "https://127.0.0.1.example.com/",
        "https://localhost.example.com/", "https://notlocalhost/", "https://10.example.org/",
        "https://example.com/http://127.0.0.1/", "https://example.com/?u=http://169.254.169.254/",
        "https://example.com/@user", "http://172.32.0.1/", "http://wiki.internal/", "http://10.0.0.7:8080/",
    ];
    for text in legitimate {
        let url = Url::parse(text).unwrap();
        assert!(address::check(&url, &allowed).is_ok(), "{text}");
    }
}

#[tokio::test]
async fn a_redirect_inward_is_refused_and_not_followed() {
    let oracle = Oracle::new();
    let server = MockServer::start().await;
    for (from, to) in [
        ("/ip", format!("http://127.0.0.1:{}/", oracle.port)),
        ("/six", format!("http://[::1]:{}/", oracle.port)),
        ("/number", format!("http://2130706433:{}/", oracle.port)),
        ("/name", format!("http://inward.example:{}/", oracle.port)),
        ("/relative", format!("//127.0.0.1:{}/", oracle.port)),
        ("/user", format!("http://u:p@127.0.0.1:{}/", oracle.port)),
        ("/file", "file:///etc/passwd".into()),
    ] {
        let answer = ResponseTemplate::new(302).insert_header("location", to.as_str());
        Mock::given(path(from))
            .respond_with(answer)
            .mount(&server)
            .await;
        let here = server.address().to_string();
        let lookup = Table::of(&[("inward.example", &[&["127.0.0.1"]])]);
        let gateway = gateway(&[&here], lookup);
        let failure = gateway
            .fetch(request(&format!("{}{from}", server.uri())))
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{from}: {failure}");
    }
    assert_eq!(oracle.connections(), 0);
    assert_eq!(server.received_requests().await.unwrap().len(), 7);
}

#[tokio::test]
async fn a_name_that_turns_inward_after_its_first_answer_gains_nothing() {
    let oracle = Oracle::new();
    // The first answer counts as public, but no route leads there; the next ones are the attack.
    let inward: &[&str] = &["127.0.0.1"];
    let lookup = Table::of(&[("rebind.example", &[&["3ffe::1"], inward, inward, inward])]);
    let gateway = gateway(&[], lookup.clone());
    for _ in 0..3 {
        let mut request = request(&format!("http://rebind.example:{}/", oracle.port));
        request.timeout = Duration::from_millis(200);
        assert!(gateway.fetch(request).await.is_err());
    }
    assert_eq!(oracle.connections(), 0);
    // Each name was resolved once: what was checked is what was connected to.
    assert_eq!(lookup.0.lock().unwrap()["rebind.example"].len(), 1);
}

#[test]
fn forbidden_addresses_are_dropped_from_mixed_answers() {
    let lookup = Table::of(&[("mixed.example", &[&["127.0.0.1", "1.1.1.1", "::1"]])]);
    let guard = Guard::new(lookup, Reach::Public);
    let name = "mixed.example".parse().unwrap();
    let found = futures::executor::block_on(reqwest::dns::Resolve::resolve(&guard, name)).unwrap();
    assert_eq!(
        found.map(|a| a.ip().to_string()).collect::<Vec<_>>(),
        ["1.1.1.1"]
    );
}

#[tokio::test]
async fn a_trusted_client_reaches_its_host_only_and_private_ones_only_where_meant() {
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(302).insert_header("location", "/"))
        .mount(&server)
        .await;
    let port = server.address().port();
    let lookup = Table::of(&[
        ("model.example", &[&["127.0.0.1"]]),
        ("other.example", &[&["127.0.0.1"]]),
    ]);
    let strict = gateway(&[], lookup.clone());
    let open = gateway(&["model.example"], lookup);
    let url = |host: &str| Url::parse(&format!("http://{host}:{port}/v1")).unwrap();
    let status = async |trusted: &Trusted, url: Url| {
        let sent = trusted.client().post(url).send().await;
        sent.map(|response| response.status().as_u16())
            .map_err(|error| failure::transport("model", error))
    };
    // Redirects are not followed: the 302 comes back as it is.
    let literal = strict.trusted(&url("127.0.0.1"), false).unwrap();
    assert_eq!(literal.url("/chat").path(), "/v1/chat");
    assert_eq!(status(&literal, literal.url("chat")).await, Ok(302));
    let local = strict.trusted(&url("model.example"), true).unwrap();
    assert_eq!(status(&local, local.url("chat")).await, Ok(302));
    assert!(status(&local, url("other.example")).await.is_err());
    let listed = open.trusted(&url("model.example"), false).unwrap();
    assert_eq!(status(&listed, listed.url("chat")).await, Ok(302));
    let public = strict.trusted(&url("model.example"), false).unwrap();
    let failure = status(&public, public.url("chat")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert_eq!(server.received_requests().await.unwrap().len(), 3);
}

fn mail_server(host: &str, port: u16, tls: MailTls) -> SmtpServer {
    SmtpServer {
        host: host.into(),
        port,
        tls,
        login: None,
        roots: None,
        timeout: Duration::from_millis(500),
        hello: "house.example".into(),
    }
}

#[tokio::test]
async fn a_mail_server_is_reached_where_it_is_public_or_meant() {
    let inward = || {
        Table::of(&[
            ("mail.example", &[&["127.0.0.1"]]),
            ("mixed.example", &[&["10.0.0.1", "127.0.0.1"]]),
            // Public once, then inward: each attempt resolves and checks for itself.
            ("rebind.example", &[&["3ffe::1"], &["127.0.0.1"]]),
        ])
    };
    let oracle = Oracle::new();
    for name in ["mail.example", "mixed.example", "rebind.example"] {
        let gateway = gateway(&["mail.example:1"], inward());
        let server = mail_server(name, oracle.port, MailTls::Starttls);
        let smtp = gateway.smtp(server).unwrap();
        for attempt in 0..3 {
            let failure = smtp.greet().await.unwrap_err();
            let is_refused = failure.kind == FailureKind::Permanent;
            assert!(
                is_refused || name == "rebind.example" && attempt == 0,
                "{name}: {failure}"
            );
            assert!(!failure.may_have_happened, "{name}");
        }
        assert_eq!(oracle.connections(), 0, "{name}");
    }
    // What the operator names by its address, or has on the list, is connected to.
    for (name, listed) in [
        ("127.0.0.1", "x.example"),
        ("mail.example", "mail.example"),
        ("localhost", "x.example"),
    ] {
        let lookup = Table::of(&[
            ("mail.example", &[&["127.0.0.1"]]),
            ("localhost", &[&["127.0.0.1"]]),
        ]);
        let gateway = gateway(&[listed], lookup);
        let smtp = gateway
            .smtp(mail_server(name, oracle.port, MailTls::Starttls))
            .unwrap();
        let failure = smtp.greet().await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Transient, "{name}: {failure}");
        assert_eq!(oracle.connections(), 1, "{name}");
    }
}

#[tokio::test]
async fn without_tls_nothing_leaves_this_machine() {
    let lookup = Table::of(&[("localhost", &[&["10.0.0.1"]])]);
    let gateway = gateway(&["mail.example"], lookup);
    for name in ["mail.example", "10.0.0.1", "localhost.example", "0.0.0.0"] {
        let refused = gateway.smtp(mail_server(name, 25, MailTls::None));
        assert!(matches!(refused, Err(ServerError::Clear(_))), "{name}");
    }
    // Whatever this machine's own name leads to.
    let smtp = gateway.smtp(mail_server("localhost", 25, MailTls::None));
    let failure = smtp.unwrap().greet().await.unwrap_err();
    assert!(failure.message.contains("no address"), "{failure}");
}

#[tokio::test]
async fn a_body_is_cut_at_its_cap_also_after_decompression() {
    let server = MockServer::start().await;
    // 2,000 bytes of `a`, as gzip writes them.
    let packed = "1f8b08000000000002034b4c1c05a360148c8251300a46c1500700393e13a8d0070000";
    Mock::given(path("/plain"))
        .respond_with(ResponseTemplate::new(200).set_body_string("a".repeat(2000)))
        .mount(&server)
        .await;
    let zipped = ResponseTemplate::new(200)
        .insert_header("content-encoding", "gzip")
        .set_body_bytes(hex::decode(packed).unwrap());
    Mock::given(path("/zip"))
        .respond_with(zipped)
        .mount(&server)
        .await;
    let gateway = gateway(&[&server.address().to_string()], Table::of(&[]));
    for (from, max, expected) in [
        ("plain", 1000, (1000, true)),
        ("plain", 2000, (2000, false)),
        ("zip", 1000, (1000, true)),
        ("zip", 2000, (2000, false)),
    ] {
        let mut request = request(&format!("{}/{from}", server.uri()));
        request.max_bytes = max;
        let fetched = gateway.fetch(request).await.unwrap();
        assert_eq!(
            (fetched.body.len(), fetched.truncated),
            expected,
            "{from} {max}"
        );
        assert!(fetched.body.iter().all(|byte| *byte == b'a'));
    }
}

#[tokio::test]
async fn redirects_end_and_statuses_become_failures() {
    let server = MockServer::start().await;
    let here = |path: &str| format!("{}{path}?key=canary", server.uri());
    let to = |target: &str| ResponseTemplate::new(301).insert_header("location", target);
    let busy = ResponseTemplate::new(429).insert_header("retry-after", "9");
    for (from, answer) in [
        ("/loop", to("/loop")),
        ("/once", to("/end")),
        ("/busy", busy),
    ] {
        Mock::given(path(from))
            .respond_with(answer)
            .mount(&server)
            .await;
    }
    Mock::given(path("/end"))
        .respond_with(ResponseTemplate::new(200).set_body_string("end"))
        .mount(&server)
        .await;
    let gateway = gateway(&[&server.address().to_string()], Table::of(&[]));
    let end = gateway.fetch(request(&here("/once"))).await.unwrap();
    assert_eq!(
        (end.final_url.path(), end.body.as_slice(), end.status),
        ("/end", &b"end"[..], 200)
    );
    let endless = gateway.fetch(request(&here("/loop"))).await.unwrap_err();
    assert_eq!(endless.kind, FailureKind::Permanent);
    let busy = gateway.fetch(request(&here("/busy"))).await.unwrap_err();
    assert_eq!(
        (busy.kind, busy.retry_after_s),
        (FailureKind::Transient, Some(9.0))
    );
    let missing = gateway.fetch(request(&here("/none"))).await.unwrap_err();
    assert_eq!(missing.kind, FailureKind::Permanent);
    for failure in [endless, busy, missing] {
        assert!(!failure.message.contains("canary"), "{failure}");
    }
}

#[tokio::test]
async fn transport_errors_are_transient_and_keep_the_query_to_themselves() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gateway = gateway(&[&closed.to_string()], Table::of(&[]));
    let failure = gateway
        .fetch(request(&format!("http://{closed}/a?key=canary")))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.kind, failure.may_have_happened),
        (FailureKind::Transient, false)
    );
    assert!(
        failure.message.contains("refused") && !failure.message.contains("canary"),
        "{failure}"
    );
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let gateway = self::gateway(&[&address.to_string()], Table::of(&[]));
    let mut request = request(&format!("http://{address}/a?key=canary"));
    request.timeout = Duration::from_millis(100);
    let failure = gateway.fetch(request).await.unwrap_err();
    assert_eq!(
        (failure.kind, failure.may_have_happened),
        (FailureKind::Transient, true)
    );
    assert!(!failure.message.contains("canary"), "{failure}");
}

/// Runs this test again as a process of its own whose environment names the oracle as a proxy, once
/// through the gateway and once, as the control, through a client that does look there.
#[tokio::test]
async fn proxies_of_the_environment_are_not_used() {
    if let Ok(target) = std::env::var("GATEWAY_TEST_TARGET") {
        return ask_without_proxy(&target).await;
    }
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(200))
        .mount(&server)
        .await;
    for (control, connections) in [(false, 0), (true, 1)] {
        let oracle = Oracle::new();
        let proxy = format!("http://127.0.0.1:{}", oracle.port);
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
        child.args([
            "--exact",
            "egress::tests::proxies_of_the_environment_are_not_used",
        ]);
        for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
            child.env(variable, &proxy);
        }
        child
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .env_remove("REQUEST_METHOD");
        child.env("GATEWAY_TEST_TARGET", server.uri());
        if control {
            child.env("GATEWAY_TEST_CONTROL", "1");
        }
        assert!(child.output().await.unwrap().status.success());
        assert_eq!(oracle.connections(), connections, "control: {control}");
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 2);
}

async fn ask_without_proxy(target: &str) {
    let url = Url::parse(target).unwrap();
    if std::env::var("GATEWAY_TEST_CONTROL").is_ok() {
        install_crypto();
        #[expect(
            clippy::disallowed_methods,
            reason = "the control must not be the gateway's"
        )]
        let client = reqwest::Client::builder()
            .timeout(Duration::from_millis(200))
            .build()
            .unwrap();
        assert!(client.get(url).send().await.is_err());
        return;
    }
    let allowed = format!("127.0.0.1:{}", url.port().unwrap());
    let gateway = gateway(&[&allowed], Table::of(&[]));
    gateway.fetch(request(target)).await.unwrap();
    let trusted = gateway.trusted(&url, true).unwrap();
    trusted.client().get(url).send().await.unwrap();
}
