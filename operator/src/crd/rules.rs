//! Rules that hold in several places: CEL that an API server runs, each with what it says when it refuses.
//!
//! Their cost is estimated from the bounds in the schema, and multiplied by 256 below `shards.overrides`.

use kube::core::Rule;

const EXTENDED: &str = "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$')";
const OBJECT: &str = "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')";
const IMAGE: &str = r"self.matches('^(([-.a-zA-Z0-9]+|\\[[0-9a-fA-F:]+\\])(:[0-9]+)?/)?[a-z0-9]+([-._]+[a-z0-9]+)*(/[a-z0-9]+([-._]+[a-z0-9]+)*)*(:[A-Za-z0-9_][-.A-Za-z0-9_]{0,127})?(@[a-z0-9]+:[0-9a-fA-F]{32,128})?$')";
const RELATIVE: &str = "!self.startsWith('/') && !self.split('/').exists(p, p in ['', '.', '..'])";
const POSITIVE: &str = "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))";
const AMOUNTS: &str = "self.all(name, isQuantity(string(self[name])) && quantity(string(self[name])).compareTo(quantity('0')) >= 0)";
const RESOURCES: &str = "self.all(name, name in ['cpu', 'memory', 'ephemeral-storage'] || name.startsWith('hugepages-') || name.contains('/'))";
const WITHIN: &str = "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || !isQuantity(string(self.requests[name])) || !isQuantity(string(self.limits[name])) || quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)";
/// `NAME` or `PREFIX/NAME`, the prefix a domain.
const KEY: &str = "'^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'";
const VALUE: &str = "'^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$'";

/// A bootstrap had no volume, or needs none.
const NO_VOLUME: &str = "!has(oldSelf.model.source.http) && !has(oldSelf.model.source.huggingFace) || (has(self.bootstrap.storage.emptyDir) ? self.bootstrap.storage.emptyDir : self.storage.emptyDir)";

/// The name of another object.
pub(super) fn object(field: &str, kind: &str) -> Rule {
    let letters = "lower-case letters, digits, '-' and '.'";
    Rule::new(OBJECT).message(&*format!("{field} must be the name of a {kind}: {letters}"))
}

/// The name of a StorageClass; the empty one asks for volumes without a class.
pub(super) fn class(field: &str) -> Rule {
    let message =
        format!("{field} must be the name of a StorageClass: lower-case letters, digits, '-' and '.'");
    Rule::new(format!("self == '' || {OBJECT}")).message(&*message)
}

/// What a device plugin calls its devices.
pub(super) fn extended_resource(field: &str) -> Rule {
    let message = format!("{field} must be the name of an extended resource, such as nvidia.com/gpu");
    Rule::new(EXTENDED).message(&*message)
}

/// What a container runtime can pull.
pub(super) fn image(field: &str) -> Rule {
    let message = format!(
        "{field} must be a reference to an image, without spaces, such as registry.example/team/model:1.0"
    );
    Rule::new(IMAGE).message(&*message)
}

/// A path that stays where it begins.
pub(super) fn relative(field: &str, whence: &str) -> Rule {
    Rule::new(RELATIVE).message(&*format!("{field} must be a relative path {whence}, without '..'"))
}

/// The size of a volume.
pub(super) fn size(field: &str) -> Rule {
    Rule::new(POSITIVE).message(&*format!("{field} must be a quantity above 0, such as 20Gi"))
}

/// Of the spec: where a bootstrap's own size goes, that of all volumes takes its place.
pub(super) fn bootstrap_size_removed() -> Rule {
    let (own, others) = ("oldSelf.bootstrap.storage.size", "self.storage.size");
    let rule = format!("has(self.bootstrap.storage.size) || !has({own}) || {}", grows(own, others));
    Rule::new(rule).message(
        "bootstrap.storage.size cannot be removed while storage.size, which takes its place, is smaller: volumes only grow",
    )
}

/// Of the spec, and the other way round.
pub(super) fn bootstrap_size_set() -> Rule {
    let (others, own) = ("oldSelf.storage.size", "self.bootstrap.storage.size");
    let rule = format!("!has({own}) || has(oldSelf.bootstrap.storage.size) || {}", grows(others, own));
    Rule::new(rule).message(
        "bootstrap.storage.size cannot be less than storage.size, which has held until now: volumes only grow",
    )
}

fn grows(from: &str, to: &str) -> String {
    format!(
        "{NO_VOLUME} || !isQuantity({from}) || !isQuantity({to}) || quantity({to}).compareTo(quantity({from})) >= 0"
    )
}

/// Amounts of resources, `500m` or `4Gi`.
pub(super) fn amounts(field: &str) -> Rule {
    Rule::new(AMOUNTS).message(&*format!("{field} must be quantities, such as 500m or 4Gi, and none below 0"))
}

/// Resources that a container can ask for.
pub(super) fn resources(field: &str) -> Rule {
    let known =
        "cpu, memory, ephemeral-storage, hugepages-SIZE and extended resources such as example.com/nic";
    Rule::new(RESOURCES).message(&*format!("{field} may name {known}"))
}

/// No request beyond its limit.
pub(super) fn within() -> Rule {
    Rule::new(WITHIN).message("requests has an amount that is more than its limit in limits")
}

/// Keys of labels, or of what selects by them.
pub(super) fn keys(field: &str) -> Rule {
    Rule::new(format!("self.all(key, key.matches({KEY}))")).message(&*key_message(field))
}

/// Keys of annotations: their prefix may have capitals.
pub(super) fn annotation_keys() -> Rule {
    let rule = format!("self.all(key, key.lowerAscii().matches({KEY}))");
    Rule::new(rule).message(&*key_message("annotations"))
}

/// Under our own domain stands what the operator knows pods by.
pub(super) fn not_ours(field: &str) -> Rule {
    let message = format!("{field} has a key under shardcluster.io/: those are the operator's own");
    Rule::new("self.all(key, !key.startsWith('shardcluster.io/'))").message(&*message)
}

fn key_message(field: &str) -> String {
    format!(
        "{field} has an invalid key: it must be NAME or PREFIX/NAME, of letters, digits, '-', '_' and '.', such as example.com/team"
    )
}

/// Values of labels, or of what selects by them.
pub(super) fn values(field: &str) -> Rule {
    let message = format!(
        "{field} has an invalid value: it must be letters, digits, '-', '_' and '.', with a letter or digit at both ends"
    );
    Rule::new(format!("self.all(key, self[key].matches({VALUE}))")).message(&*message)
}

/// A toleration of every taint must mean it.
pub(super) fn toleration_key() -> Rule {
    let exists = "has(t.operator) && t.operator == 'Exists'";
    Rule::new(format!("self.all(t, has(t.key) && t.key != '' || {exists})")).message(
        "tolerations has an entry without a key: it needs operator: Exists, and then holds for every taint",
    )
}

/// What exists has any value.
pub(super) fn toleration_value() -> Rule {
    let exists = "has(t.operator) && t.operator == 'Exists'";
    Rule::new(format!("self.all(t, !({exists}) || !has(t.value) || t.value == '')"))
        .message("tolerations has an entry with operator: Exists and a value: leave one of the two out")
}

/// Only this effect takes running pods away.
pub(super) fn toleration_seconds() -> Rule {
    Rule::new("self.all(t, !has(t.tolerationSeconds) || has(t.effect) && t.effect == 'NoExecute')")
        .message("tolerations has an entry with tolerationSeconds: it needs effect: NoExecute")
}
