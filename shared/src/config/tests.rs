//! Whole configurations, good and bad, and what is said about them. The reports are snapshots: what
//! a person reads is part of the behaviour.

use std::fs;

use insta::assert_snapshot;
use miette::Severity;

use super::builtin::FILES;
use super::document::File;
use super::load::Files;
use super::*;

const AGENT: &str = "name = \"helper\"\n\
    description = \"Helps with everything that nobody else is there for.\"\n\
    prompt = \"Help.\"\n";

fn tools() -> KnownTools {
    KnownTools::from_iter(["search_files", "read_file", "fetch_page", "write_file"])
        .with_needing("web_search", Need::Search)
}

fn file(name: &str, text: &str) -> File {
    File {
        name: name.to_owned(),
        bytes: text.as_bytes().to_vec(),
    }
}

fn files(settings: &str, agents: &[(&str, &str)]) -> Files {
    Files {
        settings: Some(file("majordomo.toml", settings)),
        agents: agents.iter().map(|(name, text)| file(name, text)).collect(),
        agents_at: "agents".to_owned(),
        ..Files::default()
    }
}

/// What is said about these settings beside one good agent.
fn settings(text: &str) -> String {
    report(files(text, &[("agents/helper.toml", AGENT)]))
}

/// What is said about this agent beside default settings.
fn agent(text: &str) -> String {
    report(files("", &[("agents/helper.toml", text)]))
}

fn report(files: Files) -> String {
    let report = files.load(&tools()).expect_err("this configuration is bad");
    report.render(false, 90)
}

fn warnings(files: Files) -> String {
    let config = files.load(&tools()).expect("this configuration is good");
    config
        .warnings
        .iter()
        .map(|warning| warning.render(false, 90))
        .collect()
}

#[test]
fn the_shipped_configuration_is_good_and_only_lacks_a_search_provider() {
    let config = load(&Source::BuiltIn, &tools()).unwrap();
    let names: Vec<_> = config
        .agents
        .iter()
        .map(|agent| agent.name.as_str())
        .collect();
    assert_eq!(names, ["executor", "researcher", "writer"]);
    assert_eq!(config.origin, "built into the program");
    assert!(matches!(
        config.settings.models["default"],
        ModelSettings::Auto {}
    ));
    let researcher = &config.agents[1];
    assert!(!researcher.tools.contains(&"web_search".into()));
    assert_eq!(researcher.then, Some("writer".into()));
    let severities: Vec<_> = config.warnings.iter().map(Problem::severity).collect();
    assert_eq!(severities, [Severity::Advice]);
    assert_snapshot!(config.warnings[0].render(false, 90));
}

#[test]
fn a_search_provider_gives_the_researcher_its_tool() {
    let (_, shipped) = FILES[0];
    let search = "[search]\nprovider = \"tavily\"\napi_key = \"${TAVILY_API_KEY}\"\n";
    let researcher = ("agents/researcher.toml", FILES[2].1);
    let writer = ("agents/writer.toml", FILES[3].1);
    let config = files(&format!("{shipped}\n{search}"), &[researcher, writer])
        .load(&tools())
        .unwrap();
    assert!(config.agents[0].tools.contains(&"web_search".into()));
    assert!(config.warnings.is_empty());
}

#[test]
fn defaults_in_the_types_and_in_the_shipped_file_are_the_same() {
    let shipped = load(&Source::BuiltIn, &tools()).unwrap().settings;
    let bare = files("", &[("agents/helper.toml", AGENT)])
        .load(&tools())
        .unwrap()
        .settings;
    assert_eq!(shipped.limits, bare.limits);
    assert_eq!(shipped.server.listen, bare.server.listen);
    assert_eq!(shipped.supervisor.prompt, bare.supervisor.prompt);
    assert!(matches!(bare.models["default"], ModelSettings::Auto {}));
}

#[test]
fn syntax_errors() {
    assert_snapshot!(settings("[limits]\nsteps = \nusd = 1.0.0\n[server\n"));
}

#[test]
fn an_unclosed_text() {
    assert_snapshot!(agent("name = \"helper\"\nprompt = \"\"\"\nHelp.\n"));
}

#[test]
fn a_lease_that_three_beats_do_not_fit_is_refused() {
    insta::assert_snapshot!(settings("[engine]\nlease_s = 5\nbeat_s = 2.5\n"));
}

#[test]
fn hooks_that_cannot_be_meant() {
    assert_snapshot!(settings(
        "[hooks.GitHub]\nverify = \"github\"\nsecret = \"${A}\"\ntext = \"Look at {{issue.title}\"\n\
         [hooks.ci]\nverify = \"hmac\"\nsecret = \"hunter2\"\ntext = \"x\"\nagent = \"nobody\"\n\
         [hooks.pay]\nverify = \"stripe\"\nsecret = \"${A}\"\ntext = \" \"\nprefix = \"v1=\"\n\
         [hooks.odd]\nverify = \"none\"\nsecret = \"${A}\"\ntext = \"x\"\nheader = \"X Signature\"\n\
         [callbacks]\nsecret = \"whsec_hunter2\"\nfirst_pause_s = 0\n"
    ));
}

#[test]
fn hooks_and_callbacks_as_they_are_meant() {
    let text = "[callbacks]\nsecret = \"${A}\"\n[server]\nrequests_per_minute = 0\n\
         [hooks.github]\nverify = \"github\"\nsecret = \"${A}\"\n\
         text = \"Look at {{issue.title}} of {{header:X-GitHub-Event}}\"\n\
         when = { action = \"opened\" }\nagent = \"helper\"\n\
         [hooks.ci]\nverify = \"hmac\"\nsecret = \"${A}\"\nheader = \"X-Signature\"\nprefix = \"v=\"\n\
         encoding = \"base64\"\ntext = \"x\"\ndedupe = \"{{id}}\"\n\
         [[routes]]\nchannel = \"hook\"\nagents = [\"helper\"]\n";
    let files = files(text, &[("agents/helper.toml", AGENT)]);
    let config = files.load(&tools()).expect("this configuration is good");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let settings = config.settings;
    let (callbacks, hooks) = (settings.callbacks.unwrap(), settings.hooks);
    assert_eq!((callbacks.first_pause_s, callbacks.timeout_s), (5.0, 20.0));
    assert_eq!(hooks["github"].when["action"], "opened");
    assert_eq!(hooks["ci"].encoding, Encoding::Base64);
}

/// Each section of the shipped settings that is commented out, without its marks.
fn commented_sections() -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in FILES[0].1.lines() {
        let line = line.strip_prefix("# ");
        match (line, sections.last_mut().filter(|_| is_open)) {
            (Some(line), _) if line.starts_with('[') => sections.push(format!("{line}\n")),
            (Some(line), Some(section)) => *section += &format!("{line}\n"),
            _ => {}
        }
        is_open = line.is_some_and(|line| is_open || line.starts_with('['));
    }
    sections
}

#[test]
fn what_the_shipped_settings_comment_out_is_right_as_it_stands() {
    let sections = commented_sections();
    let agents = &FILES[1..];
    let warned = |more: &str| {
        let loaded = files(&format!("{}\n{more}", FILES[0].1), agents).load(&tools());
        let config = loaded.unwrap_or_else(|report| panic!("{more}\n{}", report.render(false, 90)));
        let warned = config
            .warnings
            .iter()
            .filter(|problem| problem.is_warning());
        warned.map(ToString::to_string).collect::<Vec<_>>()
    };
    for section in &sections {
        warned(section);
    }
    let all = sections.concat();
    assert_eq!(warned(&all), [""; 0]);
    for header in [
        "[telegram]",
        "[slack]",
        "[hooks.",
        "[[people]]",
        "[[grants]]",
        "[search]",
    ] {
        assert!(all.contains(header), "{header}: {all}");
    }
}

#[test]
fn unknown_keys_at_every_depth() {
    assert_snapshot!(settings(
        "[limit]\nsteps = 3\n[models.x]\nprovider = \"openai\"\nmodel = \"gpt-5\"\nbaseurl = \"http://x\"\n\
         [[routes]]\nmatch = 'x'\nagents = [\"helper\"]\n[supervisor]\ntemperature = 1\n"
    ));
}

#[test]
fn people_who_cannot_be_told_apart() {
    assert_snapshot!(settings(
        "[[people]]\nname = \"ada\"\ntelegram = 1\nslack = \"T1/U1\"\n\
         [[people]]\nname = \"bob\"\ntelegram = 1\nslack = \"U2\"\n[[people]]\nname = \"ada\"\n"
    ));
}

#[test]
fn people_who_would_be_nobody() {
    assert_snapshot!(settings(
        "[[people]]\nname = \"bob\"\nroles = [\"boss\"]\n\
         [[people]]\nname = \"eve\"\ntelegram = 8\nroles = []\n"
    ));
}

/// A secret in a file of its own, as a configuration names it.
fn kept(folder: &tempfile::TempDir, secret: &str) -> String {
    let file = tempfile::NamedTempFile::new_in(folder).unwrap();
    let (_, path) = file.keep().unwrap();
    fs::write(&path, secret).unwrap();
    format!("${{file:{}}}", path.display())
}

#[test]
fn tokens_of_another_kind_are_refused_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (bot, app) = (kept(&folder, "xoxb-b1b"), kept(&folder, "xapp-a1a"));
    let slack = |bot: &str, app: &str| {
        let text = format!("[slack]\nbot_token = \"{bot}\"\napp_token = \"{app}\"\n");
        report(files(&text, &[]))
    };
    let drawn = slack(&app, &bot);
    for wanted in [
        "`slack.bot_token` refers to is an app-level token",
        "[majordomo.toml:2:13]",
        "`slack.app_token` refers to is a bot token",
        "[majordomo.toml:3:13]",
        "begins with xoxb-",
    ] {
        assert!(drawn.contains(wanted), "{drawn}");
    }
    assert!(!drawn.contains("b1b") && !drawn.contains("a1a"), "{drawn}");
    // No agents: there is a report, and nothing about tokens is in it. What cannot be read is not judged.
    for right in [slack(&bot, &app), slack("${NOT_SET_1}", "${NOT_SET_2}")] {
        assert!(!right.contains("refers to"), "{right}");
    }
    let http = format!("[slack]\nbot_token = \"{bot}\"\nsigning_secret = \"{app}\"\n");
    assert!(report(files(&http, &[])).contains("`slack.signing_secret` refers to"));
}

#[test]
fn what_is_no_token_of_a_bot_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let complains = |token: &str| {
        let text = format!("[telegram]\ntoken = \"{}\"\n", kept(&folder, token));
        report(files(&text, &[])).contains("no token of a bot")
    };
    let rest = "AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw-";
    assert!(!complains(&format!("110201543:{rest}")));
    for wrong in [
        rest.to_owned(),
        format!("bot110201543:{rest}"),
        "110201543:AAHd".into(),
        format!("110201543:{rest} x"),
    ] {
        assert!(complains(&wrong), "{wrong}");
    }
}

#[test]
fn where_updates_are_sent_to_telegram_must_be_able_to_send() {
    let of = |rest: &str| {
        let text = format!("[telegram]\ntoken = \"${{NOT_SET_1}}\"\n{rest}\n");
        report(files(&text, &[]))
    };
    let plain = "webhook_url = \"http://majordomo.example.com\"";
    assert_snapshot!(of(plain));
    assert!(of("webhook_url = \"https://a.example:7717\"").contains("no updates to port 7717"));
    for right in [
        "webhook_url = \"https://a.example:8443\"".to_owned(),
        format!("api_url = \"http://127.0.0.1:8081\"\n{plain}"),
    ] {
        assert!(!of(&right).contains("Telegram sends"), "{right}");
    }
}

#[test]
fn grants_of_a_chat_that_is_closed_are_told_of() {
    let grants = "[[grants]]\nslack_workspace = \"T1\"\n[[grants]]\ntelegram_group = -5\n\
                  [telegram]\ntoken = \"${NOT_SET_1}\"\n";
    assert_snapshot!(warnings(files(grants, &[("agents/helper.toml", AGENT)])));
}

#[test]
fn approvers_who_could_never_decide_are_told_of() {
    let rules = "[[approvals.rules]]\ntool = \"pay\"\n\
                 approvers = [\"ada\", \"bob\", \"aad\", \"token:ci\", \"telegram:7\", \"local\"]\n";
    let people = "[[people]]\nname = \"ada\"\ntelegram = 1\nroles = [\"approver\"]\n\
                  [[people]]\nname = \"bob\"\ntelegram = 2\n\
                  [telegram]\ntoken = \"${NOT_SET_1}\"\n";
    let agents = [("agents/helper.toml", AGENT)];
    assert_snapshot!(warnings(files(&format!("{rules}{people}"), &agents)));
    let nobody_named = warnings(files(rules, &agents));
    assert!(
        !nobody_named.contains("is named to decide"),
        "{nobody_named}"
    );
}

#[test]
fn grants_that_cannot_be_used() {
    assert_snapshot!(settings(
        "[[grants]]\nroles = [\"member\"]\n\
         [[grants]]\nslack_workspace = \"T1\"\ntelegram_group = -5\n\
         [[grants]]\ntelegram_group = 5\n[[grants]]\nslack_channel = \"#general\"\n\
         [[grants]]\nslack_user_group = \"T1/S1\"\nroles = [\"approver\", \"admin\"]\n\
         [[grants]]\nslack_workspace = \"T1\"\nroles = [\"members\"]\n\
         [[grants]]\ndiscord_server = \"5\"\n[slack]\nbot_token = \"${NOT_SET_1}\"\n\
         signing_secret = \"${NOT_SET_2}\"\n"
    ));
}

#[test]
fn email_that_cannot_be_meant() {
    assert_snapshot!(settings(
        "[email]\nhost = \"smtp://a.example\"\nfrom = \"nobody at all\"\nuser = \"ada\"\nport = 0\n\
         allow = [\"example.org\", \"@example.org\", \"*@example.org\", \"a@b@c\"]\nmax_recipients = 0\n"
    ));
    assert_snapshot!(settings(
        "[email]\nhost = \"smtp.example.org\"\ntls = \"none\"\nfrom = \"a@example.org\\r\\nBcc: b@c.d\"\n\
         password = \"hunter2\"\n"
    ));
    let good = "[email]\nhost = \"localhost\"\ntls = \"none\"\nfrom = \"Ada L. <a@b\u{fc}cher.example>\"\nallow = [\"@example.org\"]\n";
    let files = files(good, &[("agents/helper.toml", AGENT)]);
    let config = files.load(&tools()).expect("this configuration is good");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let email = config.settings.email.unwrap();
    assert_eq!((email.port(), email.max_recipients), (25, 10));
}

#[test]
fn unknown_keys_of_an_agent() {
    assert_snapshot!(agent(&format!(
        "{AGENT}desciption = \"x\"\n[limits]\nstep = 3\n"
    )));
}

#[test]
fn a_key_below_the_wrong_table() {
    assert_snapshot!(agent(
        "name = \"helper\"\ndescription = \"Helps with everything that nobody else is there for.\"\n\
         [limits]\nsteps = 3\n\nprompt = \"Help.\"\n"
    ));
}

#[test]
fn choices_that_do_not_exist() {
    assert_snapshot!(settings(
        "[models.x]\nprovider = \"opanai\"\n[models.y]\nmodel = \"gpt-5\"\n\
         [supervisor]\nclose = \"allways\"\n\
         [search]\nprovider = \"tavily\"\napi_key = \"${K}\"\ndepth = \"deep\"\n"
    ));
}

#[test]
fn wrong_types() {
    assert_snapshot!(settings(
        "retry = 3\n[limits]\nsteps = \"20\"\nusd = true\n[egress]\nallow_private = \"wiki\"\n\
         [models]\nx = \"gpt-5\"\n[supervisor]\nprompt = 7\n"
    ));
}

#[test]
fn missing_keys() {
    assert_snapshot!(report(files(
        "[search]\nprovider = \"tavily\"\n[models.x]\nprovider = \"openai\"\n[[routes]]\nmatches = 'x'\n",
        &[
            ("agents/helper.toml", "# my helper\n\nname = \"helper\"\n"),
            ("agents/void.toml", "")
        ]
    )));
}

#[test]
fn numbers_out_of_range() {
    assert_snapshot!(settings(
        "[limits]\nsteps = 0\ntokens = 0\nusd = 0.0\nwall_s = -5\n[retry]\nattempts = 11\nbase_s = nan\n\
         [server]\nbody_limit_kib = 5_000_000_000\n"
    ));
}

#[test]
fn unknown_tools_and_settings_for_tools_that_are_not_listed() {
    assert_snapshot!(agent(&format!(
        "{AGENT}tools = [\"read_fil\", \"search_files\", \"search_files\"]\n\
         [tool.serch_files]\ntimeout_s = 5\n[tool.write_file]\nname = \"save\"\n"
    )));
}

#[test]
fn two_tools_under_one_name() {
    assert_snapshot!(agent(&format!(
        "{AGENT}tools = [\"read_file\", \"search_files\", \"write_file\"]\n\
         [tool.read_file]\nname = \"look\"\n[tool.search_files]\nname = \"look\"\n\
         [tool.write_file]\nname = \"Save It\"\n"
    )));
}

#[test]
fn tools_may_swap_their_names() {
    let swapped = format!(
        "{AGENT}tools = [\"read_file\", \"search_files\"]\n\
         [tool.read_file]\nname = \"search_files\"\n[tool.search_files]\nname = \"read_file\"\n"
    );
    assert_eq!(warnings(files("", &[("agents/helper.toml", &swapped)])), "");
}

#[test]
fn names_that_point_nowhere() {
    assert_snapshot!(report(files(
        "[supervisor]\nmodel = \"strnog\"\n[models.strong]\nprovider = \"offline\"\n\
         [[routes]]\nmatches = 'x'\nagents = [\"helper\", \"hepler\"]\n",
        &[(
            "agents/helper.toml",
            &format!("{AGENT}model = \"strongest\"\nthen = \"writer\"\n")
        )],
    )));
}

#[test]
fn routes_that_cannot_be_meant() {
    assert_snapshot!(settings(
        "[[routes]]\nagents = [\"helper\"]\n[[routes]]\nmatches = '(write'\nagents = []\n"
    ));
}

fn chained(name: &str, then: &str) -> String {
    let agent = AGENT.replace("helper", name);
    format!("{agent}then = \"{then}\"\n")
}

#[test]
fn agents_in_a_circle() {
    let (a, b, c, d) = (
        chained("a", "b"),
        chained("b", "c"),
        chained("c", "b"),
        chained("d", "d"),
    );
    assert_snapshot!(report(files(
        "",
        &[
            ("a.toml", &a),
            ("b.toml", &b),
            ("c.toml", &c),
            ("d.toml", &d)
        ]
    )));
}

#[test]
fn names_of_agents() {
    assert_snapshot!(report(files(
        "",
        &[
            ("agents/helper.toml", AGENT),
            ("agents/other.toml", AGENT),
            (
                "agents/supervisor.toml",
                &AGENT.replace("helper", "supervisor")
            ),
            ("agents/Big One.toml", &AGENT.replace("helper", "Big One")),
        ]
    )));
}

#[test]
fn nothing_where_words_are_needed() {
    assert_snapshot!(agent(
        "name = \"helper\"\ndescription = \"\"\nprompt = \"\"\"\n  \n\"\"\"\n"
    ));
}

#[test]
fn addresses() {
    assert_snapshot!(settings(
        "[server]\nlisten = \"localhost:7717\"\n[egress]\nallow_private = [\"http://wiki/\", \"wiki:80\"]\n\
         [models.x]\nprovider = \"openai\"\nmodel = \"m\"\nlocal = true\nbase_url = \"localhost:11434/v1\"\n\
         [models.y]\nprovider = \"openai\"\nmodel = \"m\"\nlocal = true\nbase_url = \"not a url\"\n"
    ));
}

#[test]
fn secrets_in_plain_text_are_refused_and_not_shown() {
    let drawn = settings(
        "[models.x]\nprovider = \"openai\"\nmodel = \"gpt-5\"\napi_key = \"sk-very-secret\"\n\
         base_url = \"https://me:hidden-too@proxy/v1\"\n\
         [models.x.headers]\nOpenAI-Organization = \"acme\"\nAuthorization = \"Bearer sk-very-secret\"\n\
         X-Broken = \"${file:key}\"\nX-Token = \"\"\n\"X Y\" = \"z\"\n\
         [models.y]\nprovider = \"openai\"\nmodel = \"gpt-5\"\napi_key = \"${sk-very-secret}\"\n\
         [models.z]\nprovider = \"openai\"\nmodel = \"gpt-5\"\napi_key = 7777777\n",
    );
    assert!(
        !["very-secret", "hidden", "7777"]
            .iter()
            .any(|secret| drawn.contains(secret)),
        "{drawn}"
    );
    assert_snapshot!(drawn);
}

#[test]
fn a_databases_address_may_be_written_down_and_its_password_may_not() {
    let fine = |url: &str| {
        let text = format!("database_url = \"{url}\"\n");
        warnings(files(&text, &[("agents/helper.toml", AGENT)]))
    };
    for url in [
        "${DATABASE_URL}",
        "${file:/run/secrets/url}",
        "postgres://me:${PW}@db:5432/books?sslmode=verify-full",
        "postgres:///books?host=/run/postgresql",
        "postgres://me@db/books",
    ] {
        assert_eq!(fine(url), "", "{url}");
    }
    for url in [
        "postgres://me:hidden@db/books",
        "postgres://db/books?password=hidden",
    ] {
        let drawn = settings(&format!("database_url = \"{url}\"\n"));
        assert!(drawn.contains("holds a password"), "{drawn}");
        assert!(!drawn.contains("hidden"), "{drawn}");
    }
}

#[test]
fn a_price_is_missing() {
    assert_snapshot!(settings(
        "[models.x]\nprovider = \"openai\"\nmodel = \"gpt-x\"\n"
    ));
}

#[test]
fn a_model_with_a_price_of_its_own_or_none_to_pay_is_fine() {
    let models = "[models.x]\nprovider = \"openai\"\nmodel = \"gpt-x\"\n\
        [models.y]\nprovider = \"openai\"\nmodel = \"mine\"\nlocal = true\n\
        [prices.gpt-x]\ninput = 1\noutput = 2\n";
    assert_eq!(
        warnings(files(models, &[("agents/helper.toml", AGENT)])),
        ""
    );
}

#[test]
fn mistakes_of_all_files_are_told_together() {
    let broken = "name = \"broken\"\nprompt = \"\n";
    let after_broken = chained("helper", "broken");
    assert_snapshot!(report(files(
        "[limits]\nstep = 5\n",
        &[
            ("agents/broken.toml", broken),
            ("agents/helper.toml", &after_broken),
            ("agents/other.toml", &chained("other", "nobody")),
        ]
    )));
}

#[test]
fn no_agents() {
    assert_snapshot!(report(files("", &[])));
}

#[test]
fn unwise_but_allowed() {
    let free = "[[routes]]\nchannel = \"htpp\"\nagents = [\"helper\"]\n[prices]\nz = { input = 0, output = 0.00 }\n";
    let terse = "name = \"helper\"\ndescription = \"Helps.\"\nprompt = \"Help.\"\n";
    assert_snapshot!(warnings(files(free, &[("agents/helper.toml", terse)])));
}

#[test]
fn slack_needs_what_its_events_come_in_by() {
    let complains = |rest: &str| {
        let text = format!("[slack]\nbot_token = \"${{PATH}}\"\n{rest}");
        report(files(&text, &[])).contains("needs `")
    };
    let (app, signing) = (
        "app_token = \"${PATH}\"\n",
        "signing_secret = \"${PATH}\"\n",
    );
    let mode = |mode: &str, more: &str| format!("mode = \"{mode}\"\n{more}");
    for wrong in [String::new(), mode("socket", signing), mode("http", app)] {
        assert!(complains(&wrong), "{wrong}");
    }
    // No agents: there is a report, and nothing about Slack is in it.
    for right in [
        app.into(),
        signing.into(),
        mode("socket", app),
        mode("http", signing),
    ] {
        assert!(!complains(&right), "{right}");
    }
}

#[test]
fn bytes_that_are_no_text() {
    let mut files = files("", &[("agents/helper.toml", AGENT)]);
    files.agents.push(File {
        name: "agents/latin.toml".into(),
        bytes: b"name = \"latin\"\nprompt = \"caf\xe9\"\n".to_vec(),
    });
    assert_snapshot!(report(files));
}

#[test]
fn a_folder_is_read_and_its_relative_paths_are_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir_all(path.join("agents/.#old.toml")).unwrap();
    fs::write(path.join("agents/helper.toml"), AGENT).unwrap();
    fs::write(path.join("agents/notes.md"), "not an agent").unwrap();
    let source = Source::Folder(path.to_owned());
    let config = load(&source, &tools()).unwrap();
    assert_eq!(config.agents.len(), 1);

    fs::write(
        path.join("majordomo.toml"),
        "[files]\nread = \"docs\"\nwrite = \"/out\"\n[models.s]\nprovider = \"scripted\"\nfile = \"s.json\"\n",
    )
    .unwrap();
    let config = load(&source, &tools()).unwrap();
    assert_eq!(config.settings.files.read, Some(path.join("docs")));
    assert_eq!(config.settings.files.write, Some("/out".into()));
    assert!(
        config.warnings[0]
            .message()
            .starts_with("there is no folder")
    );
    let ModelSettings::Scripted { file } = &config.settings.models["s"] else {
        panic!()
    };
    assert_eq!(*file, path.join("s.json"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let gone = load(&Source::Folder(folder.path().join("gone")), &tools()).unwrap_err();
    assert!(
        gone.to_string().contains("there is no config folder"),
        "{gone}"
    );

    fs::create_dir_all(folder.path().join("agents/helper.toml")).unwrap();
    fs::write(
        folder.path().join("agents/other.toml"),
        chained("other", "helper"),
    )
    .unwrap();
    let report = load(&Source::Folder(folder.path().to_owned()), &tools()).unwrap_err();
    assert_eq!(report.problems.len(), 1, "{report}");
    let message = report.problems[0].message();
    assert!(
        message.contains("cannot read") && message.contains("helper.toml"),
        "{message}"
    );
}

/// Whatever an editor leaves of a file while it writes, there is an answer and no panic, and what is
/// said can be drawn.
#[test]
fn no_truncation_of_the_shipped_files_panics() {
    for (index, (name, text)) in FILES.iter().enumerate() {
        // A debug build takes too long for each byte of each file; each byte of one is enough.
        let step = if index == 0 { 1 } else { 7 };
        for end in (0..text.len()).step_by(step) {
            let mut files = files("", &[("agents/helper.toml", AGENT)]);
            let cut = File {
                name: (*name).to_owned(),
                bytes: text.as_bytes()[..end].to_vec(),
            };
            match index {
                0 => files.settings = Some(cut),
                _ => files.agents.push(cut),
            }
            if let Err(report) = files.load(&tools()) {
                let drawn = report.render(false, 90);
                assert!(
                    !drawn.contains("Failed to read"),
                    "{name} cut at {end}: {drawn}"
                );
            }
        }
    }
}
