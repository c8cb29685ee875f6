//! Every rule of the module's page, driven through [`Schema::load`].

use std::time::Duration;

use super::*;

const AGENT: &[Spec] = &[
    Spec::text("work_dir").required().help("Where state lives."),
    Spec::port("port").default("5051"),
    Spec::switch("switch_user").default("true"),
    Spec::duration("gc_delay").default("1weeks"),
    Spec::bytes("cache"),
    Spec::percent("limit").default("100%"),
    Spec::path("credentials"),
    Spec::list("isolation").default("posix/cpu,posix/mem"),
    Spec::choice("sorter", &["drf", "random"]).default("drf"),
    Spec::json("attributes_json"),
    Spec::text("secret_key").secret(),
];
const MARATHON: &[Spec] = &[Spec::integer("max_apps", 1, 100).default("10")];

fn schema() -> Schema {
    Schema::new("dcos-agent", "The working node.")
        .with(AGENT)
        .section("marathon", MARATHON)
}

fn run(sources: &Sources) -> Values {
    match schema().load(sources).unwrap() {
        Loaded::Run(values) => values,
        other => panic!("{other:?}"),
    }
}

fn mistakes(sources: &Sources) -> Vec<String> {
    schema()
        .load(sources)
        .unwrap_err()
        .0
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn defaults_fill_what_is_not_given() {
    let values = run(&Sources::new(["--work_dir=/w"]));
    assert_eq!(values.port("port"), 5051);
    assert!(values.switch("switch_user"));
    assert_eq!(values.duration("gc_delay"), Duration::from_hours(168));
    assert_eq!(values.opt_bytes("cache"), None);
    assert!((values.number("limit") - 1.0).abs() < f64::EPSILON);
    assert_eq!(values.list("isolation"), ["posix/cpu", "posix/mem"]);
    assert_eq!(values.count("marathon_max_apps"), 10);
    assert_eq!(values.origin("port"), Some(Origin::Default));
    assert_eq!(values.origin("cache"), None);
}

#[test]
fn flag_beats_environment_beats_file() {
    let (_dir, path) = file("c.toml", "work_dir = '/f'\nport = 1\ncache = '1KB'\n");
    let sources = Sources::new([format!("--config={path}"), "--work_dir=/flag".into()]).env([
        ("MESOS_WORK_DIR", "/e"),
        ("MESOS_PORT", "2"),
        ("MESOS_NO_SUCH_THING", "x"),
    ]);
    let values = run(&sources);
    assert_eq!(values.text("work_dir"), "/flag");
    assert_eq!(
        (values.port("port"), values.origin("port")),
        (2, Some(Origin::Environment))
    );
    assert_eq!(
        (values.bytes("cache"), values.origin("cache")),
        (1024, Some(Origin::File))
    );
}

#[test]
fn our_own_variables_beat_those_of_mesos() {
    let values = run(&Sources::default().env([
        ("MESOS_WORK_DIR", "/mesos"),
        ("DCOS_WORK_DIR", "/dcos"),
        ("DCOS_MARATHON_MAX_APPS", "3"),
    ]));
    assert_eq!(values.text("work_dir"), "/dcos");
    assert_eq!(values.integer("marathon_max_apps"), 3);
}

#[test]
fn switches_have_four_spellings() {
    for (flag, expected) in [
        ("--switch_user", true),
        ("--no-switch_user", false),
        ("--no-switch-user", false),
        ("--switch_user=false", false),
        ("--switch_user=1", true),
    ] {
        let values = run(&Sources::new(["--work-dir=/w", flag]));
        assert_eq!(values.switch("switch_user"), expected, "{flag}");
    }
}

#[test]
fn files_may_be_toml_or_json_with_sections() {
    let toml = "work_dir = '/w'\nisolation = ['a', 'b']\nattributes_json = { rack = 'r1' }\n\
                [marathon]\nmax_apps = 7\n";
    let json = r#"{"work_dir": "/w", "isolation": ["a", "b"],
                   "attributes_json": {"rack": "r1"}, "marathon": {"max_apps": 7}}"#;
    for text in [toml, json] {
        let (_dir, path) = file("config", text);
        let values = run(&Sources::new([format!("--config={path}")]));
        assert_eq!(values.list("isolation"), ["a", "b"]);
        assert_eq!(values.json("attributes_json")["rack"], "r1");
        assert_eq!(values.integer("marathon_max_apps"), 7);
    }
}

#[test]
fn a_file_url_stands_for_the_content_unless_a_path_is_wanted() {
    let (_dir, path) = file("value", "/from/file\n");
    let url = format!("file://{path}");
    let values = run(&Sources::new([
        format!("--work_dir={url}"),
        format!("--credentials={url}"),
    ]));
    assert_eq!(values.text("work_dir"), "/from/file");
    assert_eq!(values.path("credentials").to_str(), Some(&*path));
}

#[test]
fn every_mistake_is_reported_with_its_key() {
    let (_dir, path) = file(
        "c.toml",
        "portt = 1\nisolation = { a = 1 }\n[other]\nx = 1\n",
    );
    let sources = Sources::new([
        "--prot=1",
        "--sorter=fair",
        "--gc_delay",
        "--cache=many",
        "--no-port",
        "stray",
        "--switch_user",
        "--no-switch_user",
        &format!("--config={path}"),
    ])
    .env([
        ("MESOS_PORT", "70000"),
        ("MESOS_LIMIT", "file:///no/such/file"),
    ]);
    assert_eq!(
        mistakes(&sources),
        [
            "prot (flag): is unknown; did you mean `port`?",
            "gc_delay (flag): needs a value: --gc_delay=VALUE",
            "no_port (flag): is unknown",
            "stray (flag): expected a flag: --name=value",
            "switch_user (flag): is given twice",
            "isolation (file): expected A,B,..., got a table or array",
            "other (file): is unknown",
            "portt (file): is unknown; did you mean `port`?",
            "work_dir: is required",
            "port (environment): expected a whole number from 0 to 65535, got `70000`",
            "cache (flag): Failed to convert '' to number",
            "limit (environment): cannot read /no/such/file: No such file or directory (os error 2)",
            "sorter (flag): expected one of drf, random, got `fair`",
        ]
    );
}

#[test]
fn unreadable_files_are_mistakes_too() {
    let all = mistakes(&Sources::new(["--work_dir=/w", "--config=/no/such/file"]));
    assert_eq!(all.len(), 1);
    assert!(all[0].starts_with("config (file): cannot read /no/such/file"));
    let (_dir, path) = file("c.toml", "work_dir = ");
    let all = mistakes(&Sources::new([
        "--work_dir=/w",
        &format!("--config={path}"),
    ]));
    assert!(all[0].starts_with("config (file): is not TOML"), "{all:?}");
}

#[test]
fn help_version_and_check_are_answered() {
    let help = match schema()
        .load(&Sources::new(["--prot=1", "--help"]))
        .unwrap()
    {
        Loaded::Help(help) => help,
        other => panic!("{other:?}"),
    };
    assert!(
        help.contains("  --work_dir=TEXT (required)\n      Where state lives.\n"),
        "{help}"
    );
    assert!(
        help.contains("  --marathon_max_apps=NUMBER (default: 10)\n"),
        "{help}"
    );
    assert!(matches!(
        schema().load(&Sources::new(["--version"])),
        Ok(Loaded::Version)
    ));
    let check = Sources::new(["--check-config", "--work_dir=/w"]);
    assert!(matches!(schema().load(&check), Ok(Loaded::Checked(_))));
    assert!(schema().load(&Sources::new(["--check-config"])).is_err());
}

#[test]
fn secrets_stay_out_of_sight() {
    let values = run(&Sources::new([
        "--work_dir=/w",
        "--secret_key=hush",
        "--",
        "x",
        "--y",
    ]));
    assert_eq!(values.text("secret_key"), "hush");
    assert_eq!(values.flags()["secret_key"], "******");
    assert!(!format!("{values:?}").contains("hush"));
    assert_eq!(values.rest(), ["x", "--y"]);
}

#[test]
fn passwords_in_urls_and_what_files_hold_stay_out_of_sight() {
    let shown = |written: &str| {
        let values = run(&Sources::new([format!("--work_dir={written}")]));
        (values.text("work_dir"), values.flags()["work_dir"].clone())
    };
    for (written, expected) in [
        (
            "zk://me:hu@sh@a:2181,b/mesos",
            "zk://me:******@a:2181,b/mesos",
        ),
        (
            "http://u:p@a/x,etcd://v:q@b/y",
            "http://u:******@a/x,etcd://v:******@b/y",
        ),
        ("zk://me:p#s s?@a/mesos", "zk://me:******@a/mesos"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("zk://user@host/mesos", "zk://user@host/mesos"),
    ] {
        assert_eq!(shown(written), (written.to_owned(), expected.to_owned()));
    }
    let (_dir, path) = file("zk", "zk://me:hush@a/mesos\n");
    let named = format!("file://{path}");
    assert_eq!(shown(&named), ("zk://me:hush@a/mesos".to_owned(), named));
}

const FORMER: &[Former] = &[
    Former::renamed("slave_port", "port"),
    Former::unneeded("log_dir", "the log goes to standard error"),
    Former::only("registry", &["replicated_log"], "there is no other"),
    Former::refused("hooks", "take it out"),
];

#[test]
fn former_names_work_or_are_told_or_refused() {
    let schema = schema().former(FORMER);
    let load = |sources: &Sources| match schema.load(sources)? {
        Loaded::Run(values) => Ok::<_, Mistakes>(values),
        other => panic!("{other:?}"),
    };
    let told = |values: &Values| {
        let notices = values.notices().iter();
        let told = notices.map(|notice| (notice.key.clone(), notice.origin));
        told.collect::<Vec<_>>()
    };
    let unit = Sources::new(["--work_dir=/w"]).env([
        ("MESOS_SLAVE_PORT", "7"),
        ("MESOS_LOG_DIR", "/var/log"),
        ("MESOS_REGISTRY", "replicated_log"),
        ("MESOS_HOOKS", ""),
    ]);
    let values = load(&unit).unwrap();
    assert_eq!(values.port("port"), 7);
    assert_eq!(told(&values), [("log_dir".into(), Origin::Environment)]);

    let flags = Sources::new(["--work_dir=/w", "--slave-port=8", "--log_dir=/l"]);
    let values = load(&flags).unwrap();
    assert_eq!(values.port("port"), 8);
    assert_eq!(told(&values), [("log_dir".into(), Origin::Flag)]);
    let newer = unit.clone().env([("MESOS_PORT", "9")]);
    assert_eq!(load(&newer).unwrap().port("port"), 9, "the newer name wins");

    let (_dir, path) = file("c.toml", "hooks = 'x'\n");
    let wrong = Sources::new(["--work_dir=/w", &*format!("--config={path}")])
        .env([("MESOS_REGISTRY", "in_memory")]);
    let all = load(&wrong).unwrap_err().to_string();
    let expected = "the configuration has mistakes:\n  \
        registry (environment): can only be replicated_log, got `in_memory`: there is no other\n  \
        hooks (file): is not there: take it out";
    assert_eq!(all, expected);
}

#[test]
fn a_json_document_may_be_named_by_its_path() {
    let (_dir, path) = file("value", "{\"rack\": \"r1\"}\n");
    let values = run(&Sources::new([
        "--work_dir=/w".to_owned(),
        format!("--attributes_json={path}"),
    ]));
    assert_eq!(values.json("attributes_json")["rack"], "r1");
}
