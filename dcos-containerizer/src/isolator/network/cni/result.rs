//! What plugins say when they are done.

use serde_json::Value;

use super::super::{Address, Attached, Dns};

/// Reads the result of the last plugin, of any version of the format.
pub(super) fn read(result: &Value) -> Result<Attached, String> {
    let mut addresses = Vec::new();
    // Since 0.3.0 a list; those of other devices than the container's have no place in it.
    for ip in result["ips"].as_array().into_iter().flatten() {
        addresses.push(address(&ip["address"])?);
    }
    for family in ["ip4", "ip6"] {
        if let Some(ip) = result.get(family) {
            addresses.push(address(&ip["ip"])?);
        }
    }
    let dns = match result.get("dns") {
        None | Some(Value::Null) => Dns::default(),
        Some(dns) => serde_json::from_value(dns.clone())
            .map_err(|error| format!("`dns` of a plugin's result: {error}"))?,
    };
    Ok(Attached { addresses, dns })
}

fn address(value: &Value) -> Result<Address, String> {
    let text = value.as_str().unwrap_or_default();
    text.parse()
        .map_err(|why| format!("an address of a plugin's result: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn addresses(result: &Value) -> String {
        let attached = read(result).unwrap();
        let texts: Vec<_> = attached.addresses.iter().map(ToString::to_string).collect();
        texts.join(" ")
    }

    #[test]
    fn results_of_all_versions_are_understood() {
        let old = json!({"ip4": {"ip": "10.1.0.5/16", "gateway": "10.1.0.1"}, "dns": {}});
        assert_eq!(addresses(&old), "10.1.0.5/16");
        let new = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "eth0"}],
            "ips": [{"address": "10.1.0.5/16", "interface": 0}, {"address": "fd00::5/64"}],
            "dns": {"nameservers": ["10.1.0.1"], "domain": "local"},
        });
        assert_eq!(addresses(&new), "10.1.0.5/16 fd00::5/64");
        assert_eq!(read(&new).unwrap().dns.domain.as_deref(), Some("local"));
        assert_eq!(addresses(&json!({})), "");
        assert!(read(&json!({"ips": [{"address": "10.1.0.5"}]})).is_err());
        assert!(read(&json!({"ip4": {"ip": "10.1.0.5/33"}})).is_err());
    }
}
