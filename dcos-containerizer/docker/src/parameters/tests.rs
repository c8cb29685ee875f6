use super::*;
use serde_json::{Value, json};

/// What the engine would be told of these options.
fn told(options: &[(&str, &str)]) -> Value {
    let mut shape = Shape::default();
    for (key, value) in options {
        apply(&mut shape, key, value).unwrap_or_else(|why| panic!("{key}={value}: {why}"));
    }
    serde_json::to_value(shape.to_body()).unwrap()
}

#[test]
fn options_become_fields() {
    let told = told(&[
        ("cpus", "1.5"),
        ("memory", "512m"),
        ("memory-swap", "-1"),
        ("ulimit", "nofile=1024:2048"),
        ("device", "/dev/fuse:/dev/f:rw"),
        ("cap-add", "NET_ADMIN"),
        ("publish", "127.0.0.1:8000-8001:80-81/tcp"),
        ("publish", "9000"),
        ("label", "a=b=c"),
        ("env", "X=1=2"),
        ("log-driver", "syslog"),
        ("log-opt", "tag=t"),
        ("tmpfs", "/run:size=64k"),
        (
            "mount",
            "type=bind,source=/a,target=/b,readonly,bind-propagation=rslave",
        ),
        ("add-host", "h:1.2.3.4"),
        ("health-interval", "1m30s"),
        ("sysctl", "net.core.somaxconn=1024"),
        ("device-read-bps", "/dev/sda:1mb"),
        ("init", "true"),
    ]);
    let host = &told["HostConfig"];
    assert_eq!(host["NanoCpus"], json!(1_500_000_000));
    assert_eq!(host["Memory"], json!(512 << 20));
    assert_eq!(host["MemorySwap"], json!(-1));
    assert_eq!(
        host["Ulimits"][0],
        json!({"Name": "nofile", "Soft": 1024, "Hard": 2048})
    );
    assert_eq!(host["Devices"][0]["PathInContainer"], "/dev/f");
    assert_eq!(host["CapAdd"], json!(["NET_ADMIN"]));
    assert_eq!(
        host["PortBindings"]["81/tcp"][0],
        json!({"HostIp": "127.0.0.1", "HostPort": "8001"})
    );
    assert!(host["PortBindings"]["9000/tcp"].is_array());
    assert_eq!(told["Labels"]["a"], "b=c");
    assert_eq!(told["Env"], json!(["X=1=2"]));
    assert_eq!(host["LogConfig"]["Type"], "syslog");
    assert_eq!(host["LogConfig"]["Config"]["tag"], "t");
    assert_eq!(host["Tmpfs"]["/run"], "size=64k");
    assert_eq!(host["Mounts"][0]["BindOptions"]["Propagation"], "rslave");
    assert_eq!(host["ExtraHosts"], json!(["h:1.2.3.4"]));
    assert_eq!(told["Healthcheck"]["Interval"], json!(90_000_000_000_i64));
    assert_eq!(host["Sysctls"]["net.core.somaxconn"], "1024");
    assert_eq!(host["BlkioDeviceReadBps"][0]["Rate"], json!(1 << 20));
    assert_eq!(host["Init"], true);
}

#[test]
fn what_is_the_agents_to_say_is_refused() {
    for (key, value) in [
        ("name", "x"),
        ("restart", "always"),
        ("no-such-option", ""),
        ("cpus", "many"),
        ("publish", "1:2:3:4"),
        ("device", "/dev/a:/b:xyz"),
        ("health-interval", "soon"),
        ("mount", "type=bind"),
        ("privileged", "maybe"),
    ] {
        assert!(
            apply(&mut Shape::default(), key, value).is_err(),
            "{key}={value}"
        );
    }
}
