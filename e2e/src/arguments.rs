//! What each program is started with: pure functions of a folder, ports and options.

use std::path::{Path, PathBuf};

use crate::options::Options;

/// Service addresses; nothing routes them.
const SERVICE_RANGE: &str = "10.96.0.0/16";
/// etcd's own default of 2 GB is little for thousands of clusters.
const ETCD_BYTES: u64 = 4 << 30;

/// Ports of loopback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) etcd_clients: u16,
    pub(crate) etcd_peers: u16,
    pub(crate) api: u16,
}

/// Where things are in a control plane's folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout<'a>(pub(crate) &'a Path);

impl Layout<'_> {
    pub(crate) fn at(self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The private key of service accounts' tokens.
    pub(crate) fn accounts_key(self) -> PathBuf {
        self.at("accounts.key")
    }

    /// Its public half.
    pub(crate) fn accounts_pub(self) -> PathBuf {
        self.at("accounts.pub")
    }

    /// The admin's token, as the API server reads it.
    pub(crate) fn tokens(self) -> PathBuf {
        self.at("tokens.csv")
    }

    /// What the API server is to note down of whom.
    pub(crate) fn audit_policy(self) -> PathBuf {
        self.at("audit.yaml")
    }

    /// What it has noted down, an object a line.
    pub(crate) fn audit_log(self) -> PathBuf {
        self.at("audit.log")
    }

    /// The admin's kubeconfig.
    pub(crate) fn kubeconfig(self) -> PathBuf {
        self.at("kubeconfig")
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

pub(crate) fn etcd(layout: Layout<'_>, ports: Ports) -> Vec<String> {
    let (clients, peers) = (ports.etcd_clients, ports.etcd_peers);
    [
        flag("data-dir", &layout.at("etcd")),
        "--unsafe-no-fsync".to_owned(),
        format!("--quota-backend-bytes={ETCD_BYTES}"),
        format!("--listen-client-urls=http://127.0.0.1:{clients}"),
        format!("--advertise-client-urls=http://127.0.0.1:{clients}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peers}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{peers}"),
        format!("--initial-cluster=default=http://127.0.0.1:{peers}"),
    ]
    .to_vec()
}

pub(crate) fn api_server(layout: Layout<'_>, ports: Ports, options: Options) -> Vec<String> {
    let mut arguments = vec![
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd_clients),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", ports.api),
        // It makes its certificate there by itself, once.
        flag("cert-dir", &layout.at("certificates")),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        flag("service-account-key-file", &layout.accounts_pub()),
        flag("service-account-signing-key-file", &layout.accounts_key()),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        flag("token-auth-file", &layout.tokens()),
    ];
    if options.audit {
        arguments.push(flag("audit-policy-file", &layout.audit_policy()));
        arguments.push(flag("audit-log-path", &layout.audit_log()));
    }
    if !options.admission.is_empty() {
        arguments.push(format!("--enable-admission-plugins={}", options.admission.join(",")));
    }
    arguments.extend(feature_gates(options));
    arguments
}

pub(crate) fn controller_manager(layout: Layout<'_>, options: Options) -> Vec<String> {
    let mut arguments = scheduler(layout);
    arguments.push(flag("service-account-private-key-file", &layout.accounts_key()));
    arguments.push("--use-service-account-credentials".to_owned());
    // It has this API server for itself: by default it asks 20 times a second, which is two minutes for a hundred ShardClusters.
    arguments.extend(["--kube-api-qps=500", "--kube-api-burst=1000"].map(str::to_owned));
    arguments.extend(feature_gates(options));
    arguments
}

pub(crate) fn scheduler(layout: Layout<'_>) -> Vec<String> {
    // One of each, and nobody asks it anything.
    [
        flag("kubeconfig", &layout.kubeconfig()),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ]
    .to_vec()
}

fn feature_gates(options: Options) -> Option<String> {
    let on: Vec<String> = options.feature_gates.iter().map(|gate| format!("{gate}=true")).collect();
    (!on.is_empty()).then(|| format!("--feature-gates={}", on.join(",")))
}

/// How somebody with a token gets in. The path of the certificate, which is its own authority, is relative to the
/// file.
pub(crate) fn kubeconfig(api: u16, user: &str, token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: e2e\n\
         clusters: [{{name: e2e, cluster: {{server: 'https://127.0.0.1:{api}', certificate-authority: certificates/apiserver.crt}}}}]\n\
         users: [{{name: '{user}', user: {{token: '{token}'}}}}]\n\
         contexts: [{{name: e2e, context: {{cluster: e2e, user: '{user}'}}}}]\n"
    )
}
