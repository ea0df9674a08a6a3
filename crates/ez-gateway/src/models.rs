//! The model list: what a key may call.

use bytes::Bytes;
use ez_contract::routing::can_serve;
use ez_contract::status::RecordStatus;
use serde_json::json;

use crate::authn::Caller;
use crate::routing::RoutingSnapshot;

/// The models of the caller's namespaces in OpenAI's shape. Those of its default namespace go by their bare names, the
/// others by `namespace.public_model`.
pub(crate) fn list_openai(snapshot: &RoutingSnapshot, caller: &Caller) -> Bytes {
    let token = &caller.token;
    let may_use = |model: &str| !token.model_limits_enabled || token.model_limits.iter().any(|own| own == model);
    let mut models: Vec<(String, i64)> = snapshot
        .bindings()
        .filter(|binding| binding.status == RecordStatus::Active && token.namespaces.contains(&binding.namespace))
        .filter(|binding| may_use(&binding.public_model) && binding.candidates.iter().any(can_serve))
        .map(|binding| {
            let is_default = binding.namespace == token.default_namespace;
            let name = if is_default {
                binding.public_model.clone()
            } else {
                ez_contract::model_ref::binding_key(&binding.namespace, &binding.public_model)
            };
            (name, binding.updated_at)
        })
        .collect();
    models.sort();
    let data: Vec<_> = models
        .into_iter()
        .map(|(id, created)| json!({"id": id, "object": "model", "created": created, "owned_by": "ez-api"}))
        .collect();
    Bytes::from(json!({"object": "list", "data": data}).to_string())
}
