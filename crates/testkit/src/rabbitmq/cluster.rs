use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::epmd::Epmd;
use super::node::{Node, Options};
use super::site::Base;
use crate::eventually::eventually;
use crate::ports::Port;

/// Three nodes form in 15-19 s on two calm cores.
const FORM_MAX: Duration = Duration::from_secs(240);

/// A RabbitMQ cluster: nodes that know each other from the start, and share nothing but their name server.
pub struct Cluster {
    nodes: Vec<Node>,
}

impl Cluster {
    /// Starts a cluster of this many nodes and waits until all have joined.
    ///
    /// # Errors
    /// When a node does not start or join.
    pub async fn start(size: usize) -> Result<Cluster> {
        let port = Port::lease()?;
        let base = Arc::new(Base::create(port.number())?);
        let epmd = Arc::new(Epmd::start(&base, port).await?);
        let names: Vec<String> = (1..=size).map(|number| format!("k{number}")).collect();
        let mut options =
            Options::default().conf("cluster_formation.peer_discovery_backend = classic_config");
        for (number, name) in (1..).zip(&names) {
            options = options.conf(&format!(
                "cluster_formation.classic_config.nodes.{number} = {name}@localhost"
            ));
        }
        let mut nodes = Vec::new();
        for name in &names {
            nodes.push(Node::prepare(base.clone(), epmd.clone(), name, &options)?);
        }
        let cluster = Cluster { nodes };
        // All at once: each waits for the others.
        for node in &cluster.nodes {
            node.launch()?;
        }
        for node in &cluster.nodes {
            node.ready().await?;
        }
        cluster.wait_joined().await?;
        Ok(cluster)
    }

    /// One node, counted from 0.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The URL of each node for `guest` in the default vhost.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Node::amqp_url).collect()
    }

    /// Waits until every node sees all nodes running.
    ///
    /// # Errors
    /// At the deadline, naming the nodes that were seen.
    pub async fn wait_joined(&self) -> Result<()> {
        for node in &self.nodes {
            let what = format!("{} to see {} nodes", node.name(), self.nodes.len());
            eventually(&what, FORM_MAX, || async {
                let running = running(node).await?;
                ensure!(running.len() == self.nodes.len(), "it sees {running:?}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

async fn running(node: &Node) -> Result<Vec<String>> {
    let status = node.ctl(&["cluster_status", "--formatter", "json"]).await?;
    let status: serde_json::Value = serde_json::from_str(&status).context("cluster_status is no JSON")?;
    let running = status["running_nodes"]
        .as_array()
        .context("cluster_status names no running_nodes")?;
    Ok(running
        .iter()
        .filter_map(|name| Some(name.as_str()?.to_owned()))
        .collect())
}
