use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use tokio::sync::OnceCell;

use super::amqp_url;
use super::ctl::Ctl;
use super::node::Node;

/// Statics are not dropped; the watchdog ends the node with this process.
static SHARED: OnceCell<SharedNode> = OnceCell::const_new();

/// The node that all tests of this process share: the one of `HOOKLANE_TEST_AMQP` (a URL without vhost, with a user who may do all) and
/// `HOOKLANE_TEST_RABBITMQ_CTL` (a shell command), else one that is started now.
///
/// # Errors
/// When it does not start.
pub async fn shared() -> Result<&'static SharedNode> {
    SHARED.get_or_try_init(SharedNode::find).await
}

/// A node for many tests, each in a vhost of its own.
pub struct SharedNode {
    access: Access,
    ctl: Ctl,
    /// Held, so that it lives as long as this process.
    _node: Option<Node>,
}

struct Access {
    user: String,
    password: String,
    /// Host and port.
    authority: String,
}

impl SharedNode {
    async fn find() -> Result<SharedNode> {
        let Ok(url) = std::env::var("HOOKLANE_TEST_AMQP") else {
            let node = Node::start().await?;
            let access = Access {
                user: "guest".into(),
                password: "guest".into(),
                authority: format!("127.0.0.1:{}", node.port()),
            };
            return Ok(SharedNode {
                access,
                ctl: node.control(),
                _node: Some(node),
            });
        };
        let ctl = std::env::var("HOOKLANE_TEST_RABBITMQ_CTL")
            .context("HOOKLANE_TEST_AMQP is set, so HOOKLANE_TEST_RABBITMQ_CTL must be")?;
        Ok(SharedNode {
            access: Access::parse(&url)?,
            ctl: Ctl::by_command(&ctl),
            _node: None,
        })
    }

    /// A fresh vhost.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn vhost(&self) -> Result<Vhost> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let name = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // One call where add_vhost and set_permissions would be two, at half a second each.
        let user = &self.access.user;
        let created = self
            .ctl
            .eval(&format!(
                "case rabbit_vhost:add(<<\"{name}\">>, <<\"test\">>) of {{error, E}} -> {{error, E}}; _ -> \
                 rabbit_auth_backend_internal:set_permissions(<<\"{user}\">>, <<\"{name}\">>, \
                 <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"test\">>), created end."
            ))
            .await?;
        ensure!(created == "created", "cannot create the vhost {name}: {created}");
        let url = self.access.url(&name);
        Ok(Vhost {
            name,
            url,
            authority: self.access.authority.clone(),
            ctl: self.ctl.clone(),
        })
    }

    /// The node's `rabbitmqctl`.
    pub fn control(&self) -> Ctl {
        self.ctl.clone()
    }
}

impl Access {
    fn parse(url: &str) -> Result<Access> {
        let parts = || {
            let (account, authority) = url.strip_prefix("amqp://")?.split_once('@')?;
            let (user, password) = account.split_once(':')?;
            let authority = authority.split('/').next()?;
            Some(Access {
                user: user.into(),
                password: password.into(),
                authority: authority.into(),
            })
        };
        parts().context("HOOKLANE_TEST_AMQP is not amqp://user:password@host:port")
    }

    fn url(&self, vhost: &str) -> String {
        amqp_url("amqp", &self.user, &self.password, &self.authority, vhost)
    }
}

/// A vhost of one test. Dropping it deletes it, in the background: queues of hundreds of tests would slow the node.
pub struct Vhost {
    name: String,
    url: String,
    authority: String,
    ctl: Ctl,
}

/// What a user may do in a vhost; each is a pattern over the names of exchanges and queues.
#[derive(Clone, Copy, Debug)]
pub struct Rights<'a> {
    /// Declare and delete.
    pub configure: &'a str,
    /// Publish and bind.
    pub write: &'a str,
    /// Consume, and bind from.
    pub read: &'a str,
}

/// A user made by [`Vhost::user`].
#[derive(Clone, Debug)]
pub struct User {
    /// The name, unique in the node; what `user_id` must say.
    pub name: String,
    /// The URL with name, password and vhost.
    pub url: String,
}

impl Vhost {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL for a user who may do everything in it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same by way of another address (a proxy's).
    pub fn url_by(&self, address: std::net::SocketAddr) -> String {
        self.url.replacen(&self.authority, &address.to_string(), 1)
    }

    /// Host and port of the node, as a proxy's target.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Runs `rabbitmqctl`. Most commands want `-p` and [`Vhost::name`].
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String> {
        self.ctl.run(arguments).await
    }

    /// The node's `rabbitmqctl`.
    pub fn control(&self) -> Ctl {
        self.ctl.clone()
    }

    /// Creates a user with these rights in this vhost only.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn user(&self, role: &str, rights: Rights<'_>) -> Result<User> {
        let name = format!("{}.{role}", self.name);
        let password = "correct horse";
        self.ctl(&["add_user", &name, password]).await?;
        let Rights {
            configure,
            write,
            read,
        } = rights;
        self.ctl(&["set_permissions", "-p", &self.name, &name, configure, write, read])
            .await?;
        let url = amqp_url("amqp", &name, password, &self.authority, &self.name);
        Ok(User { name, url })
    }

    /// Closes the client connections in this vhost.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn close_all_connections(&self) -> Result<()> {
        self.ctl(&["close_all_connections", "-p", &self.name, "closed by a test"])
            .await
            .map(drop)
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        let mut delete: Command = self.ctl.command(&["delete_vhost", &self.name]);
        delete
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Not waited for by the test; a thread reaps it. If it fails, the vhost goes with the node.
        if let Ok(mut child) = delete.spawn() {
            std::thread::spawn(move || child.wait());
        }
    }
}
