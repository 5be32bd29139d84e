//! What Sentinels say, asked one by one, and when a group of them is whole.

use std::collections::BTreeMap;

use redis::RedisResult;

use crate::server::Server;

/// The name under which every group of the lab is monitored.
pub const GROUP_NAME: &str = "mymaster";

impl Server {
    /// The primary's address, as this Sentinel says it.
    pub fn sentinel_primary(&self) -> Option<(String, u16)> {
        let address: Option<(String, u16)> = self.query(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP_NAME]).ok()?;
        address
    }

    /// A field of `SENTINEL MASTER`.
    pub fn sentinel_field(&self, field: &str) -> Option<String> {
        let mut fields: BTreeMap<String, String> = self.query(&["SENTINEL", "MASTER", GROUP_NAME]).ok()?;
        fields.remove(field)
    }

    /// The group's replicas as this Sentinel sees them, one map of fields each.
    pub fn sentinel_replicas(&self) -> RedisResult<Vec<BTreeMap<String, String>>> {
        self.query(&["SENTINEL", "REPLICAS", GROUP_NAME])
    }

    /// Whether this Sentinel knows `replicas` healthy replicas and `others` other Sentinels, sees nothing down, and
    /// has its quorum.
    pub(crate) fn sentinel_is_whole(&self, replicas: usize, others: usize) -> bool {
        let known = |field: &str| self.sentinel_field(field);
        known("flags").as_deref() == Some("master")
            && known("num-other-sentinels") == Some(others.to_string())
            && self.sentinel_replicas().is_ok_and(|all| all.len() == replicas && all.iter().all(is_healthy))
            && self.query::<String>(&["SENTINEL", "CKQUORUM", GROUP_NAME]).is_ok()
    }
}

fn is_healthy(replica: &BTreeMap<String, String>) -> bool {
    let field = |name: &str| replica.get(name).map(String::as_str);
    field("flags") == Some("slave") && field("master-link-status") == Some("ok")
}

/// The configuration of a Sentinel that watches `primary`.
pub(crate) fn conf_lines(watch: &Watch<'_>) -> Vec<String> {
    let (host, port) = watch.primary.endpoint();
    let mut lines = vec![
        "protected-mode no".to_owned(),
        format!("sentinel monitor {GROUP_NAME} {host} {port} {}", watch.quorum),
        format!("sentinel down-after-milliseconds {GROUP_NAME} {}", watch.down_after_ms),
        format!("sentinel failover-timeout {GROUP_NAME} {}", watch.failover_timeout_ms),
        format!("sentinel parallel-syncs {GROUP_NAME} 1"),
    ];
    if let Some(password) = watch.password {
        lines.push(format!("sentinel auth-pass {GROUP_NAME} {}", crate::group::quoted(password)));
    }
    lines
}

pub(crate) struct Watch<'a> {
    pub primary: &'a Server,
    pub quorum: usize,
    pub down_after_ms: u64,
    pub failover_timeout_ms: u64,
    pub password: Option<&'a str>,
}
