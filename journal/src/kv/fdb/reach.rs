//! Whether a cluster answers; and if it doesn't, why, in one sentence.

use super::FdbStore;
use super::error::{code, reading};
use crate::kv::KvError;
use foundationdb::api::get_max_api_version;
use foundationdb::options::TransactionOption;
use serde::Deserialize;
use std::path::Path;

/// How long a cluster may take to answer, ms: a recovery of the cluster takes less.
const ANSWER_MS_MAX: i32 = 10_000;
/// What stands for the id of a cluster that has told none.
const NO_CLUSTER: &str = "00000000000000000000000000000000";

/// What the client knows by itself, as far as it is of interest here. Names are FoundationDB's.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ClientStatus {
    #[serde(rename = "ClusterID")]
    cluster_id: String,
    connections: Vec<Connection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Connection {
    address: String,
    status: String,
    compatible: bool,
    protocol_version: Option<String>,
}

impl FdbStore {
    /// Returns when the database answers. If it doesn't within 10 s, the error tells a wrong cluster file, a client
    /// library of another version, and a database that is not available apart.
    pub async fn reach(&self) -> Result<(), KvError> {
        let trx = self.database.create_trx().map_err(reading)?;
        trx.set_option(TransactionOption::Timeout(ANSWER_MS_MAX))
            .map_err(reading)?;
        let Err(error) = trx.get_read_version().await else {
            return Ok(());
        };
        match error.code() {
            code::CONNECTION_STRING_INVALID => Err(wrong(format!(
                "{} is no cluster file: its line reads DESCRIPTION:ID@ADDRESS:PORT,...",
                self.cluster_file.display()
            ))),
            code::TRANSACTION_TIMED_OUT => {
                let told = self.database.get_client_status().await.map_err(reading)?;
                // If it is none, the client knows nothing.
                let status = serde_json::from_slice(&told).unwrap_or_default();
                Err(why_silent(&self.cluster_file, &status))
            }
            _ => Err(reading(error)),
        }
    }
}

fn wrong(reason: String) -> KvError {
    KvError::Io {
        operation: "opening",
        reason,
    }
}

fn why_silent(cluster_file: &Path, status: &ClientStatus) -> KvError {
    let file = cluster_file.display();
    let all = &status.connections;
    if let Some(other) = all.iter().find(|connection| !connection.compatible) {
        let version = get_max_api_version();
        return wrong(format!(
            "the client library here is for FoundationDB {}.{}, and the server at {} is of another version (protocol \
             {}): install the library of the server's version",
            version / 100,
            version / 10 % 10,
            other.address,
            other.protocol_version.as_deref().unwrap_or("unknown"),
        ));
    }
    // A server tells its protocol; whatever else listens there doesn't.
    let server = all.iter().find(|connection| {
        connection.status == "connected" && connection.protocol_version.is_some()
    });
    match server {
        None => {
            let addresses: Vec<_> = all.iter().map(|at| at.address.as_str()).collect();
            KvError::Unavailable(format!(
                "no FoundationDB answers at {}, where {file} says that it is",
                addresses.join(", ")
            ))
        }
        Some(server) if status.cluster_id.is_empty() || status.cluster_id == NO_CLUSTER => {
            wrong(format!(
                "the FoundationDB at {} knows no database of the description and id in {file}: copy the cluster file \
                 of its servers; if that is what it is, `fdbcli -C {file} --exec status` tells more",
                server.address
            ))
        }
        Some(_) => KvError::Unavailable(format!(
            "the database is there, but it serves nobody: `fdbcli -C {file} --exec status` tells why"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: &str) -> String {
        let status = serde_json::from_str(status).unwrap();
        why_silent(Path::new("/etc/fdb.cluster"), &status).to_string()
    }

    #[test]
    fn a_silent_address_a_strange_cluster_another_version_and_a_database_that_is_away_are_told_apart()
     {
        // As 7.3 tells it.
        let silent = r#"{"ClusterID":"00000000000000000000000000000000","Connections":[{"Address":"127.0.0.1:4999",
            "Compatible":true,"ConnectFailedCount":1,"Status":"connecting"}],"Healthy":false}"#;
        let strange = r#"{"ClusterID":"00000000000000000000000000000000","Connections":[{"Address":"127.0.0.1:4510",
            "Compatible":true,"ProtocolVersion":"fdb00b073000000","Status":"connected"}],"Healthy":false}"#;
        let other = r#"{"ClusterID":"00000000000000000000000000000000","Connections":[{"Address":"127.0.0.1:4510",
            "Compatible":false,"ProtocolVersion":"fdb00b071000000","Status":"connecting"}],"Healthy":false}"#;
        let away = r#"{"ClusterID":"48c6b02540048a386beb4990f241871b","Connections":[{"Address":"127.0.0.1:4510",
            "Compatible":true,"ProtocolVersion":"fdb00b073000000","Status":"connected"}],"Healthy":false}"#;
        for (status, word) in [
            (silent, "no FoundationDB answers at 127.0.0.1:4999"),
            (strange, "knows no database of the description and id"),
            (other, "(protocol fdb00b071000000): install the library"),
            (away, "it serves nobody"),
            ("{}", "no FoundationDB answers"),
        ] {
            assert!(told(status).contains(word), "{}", told(status));
        }
    }
}
