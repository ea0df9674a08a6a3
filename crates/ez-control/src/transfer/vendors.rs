//! Vendors that other systems know by name: which provider type stands for each, and its public base URL.

use ez_contract::ProviderType;
use url::Url;

/// Words of other systems for types that are known here under another name.
const ALIASES: &[(&str, ProviderType)] = &[
    ("azure-openai", ProviderType::Azure),
    ("azure_openai", ProviderType::Azure),
    ("palm", ProviderType::Gemini),
    ("vertexai", ProviderType::Vertex),
    ("vertex-ai", ProviderType::Vertex),
    ("vertex_ai", ProviderType::Vertex),
    ("vertex_express", ProviderType::VertexExpress),
    ("openai-compatible", ProviderType::Compatible),
    ("openai_compatible", ProviderType::Compatible),
];

/// Vendors with a public OpenAI-compatible API: name, base URL as their own documentation gives it for OpenAI's SDK.
const COMPATIBLE: &[(&str, &str)] = &[
    ("ai360", "https://api.360.cn/v1"),
    ("baichuan", "https://api.baichuan-ai.com/v1"),
    ("baidu_v2", "https://qianfan.baidubce.com/v2"),
    ("ali", "https://dashscope.aliyuncs.com/compatible-mode/v1"),
    ("cerebras", "https://api.cerebras.ai/v1"),
    ("cohere", "https://api.cohere.ai/compatibility/v1"),
    ("dashscope", "https://dashscope.aliyuncs.com/compatible-mode/v1"),
    ("deepinfra", "https://api.deepinfra.com/v1/openai"),
    ("deepseek", "https://api.deepseek.com/v1"),
    ("doubao", "https://ark.cn-beijing.volces.com/api/v3"),
    ("fireworks", "https://api.fireworks.ai/inference/v1"),
    ("grok", "https://api.x.ai/v1"),
    ("groq", "https://api.groq.com/openai/v1"),
    ("hunyuan", "https://api.hunyuan.cloud.tencent.com/v1"),
    ("lingyiwanwu", "https://api.lingyiwanwu.com/v1"),
    ("minimax", "https://api.minimax.io/v1"),
    ("mistral", "https://api.mistral.ai/v1"),
    ("moonshot", "https://api.moonshot.cn/v1"),
    ("novita", "https://api.novita.ai/v3/openai"),
    ("nvidia", "https://integrate.api.nvidia.com/v1"),
    ("openrouter", "https://openrouter.ai/api/v1"),
    ("perplexity", "https://api.perplexity.ai"),
    ("qianfan", "https://qianfan.baidubce.com/v2"),
    ("qwen", "https://dashscope.aliyuncs.com/compatible-mode/v1"),
    ("siliconflow", "https://api.siliconflow.cn/v1"),
    ("stepfun", "https://api.stepfun.com/v1"),
    ("together", "https://api.together.xyz/v1"),
    ("togetherai", "https://api.together.xyz/v1"),
    ("volcengine", "https://ark.cn-beijing.volces.com/api/v3"),
    ("xai", "https://api.x.ai/v1"),
    ("zhipu", "https://open.bigmodel.cn/api/paas/v4"),
    ("zhipu_v4", "https://open.bigmodel.cn/api/paas/v4"),
];

/// What stands for a vendor here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vendor {
    /// The type; `compatible` for what is no type of its own.
    pub(super) provider_type: ProviderType,
    /// Whether the name is that of a provider type.
    pub(super) is_known_type: bool,
    /// The public base URL, where the name is not a provider type and the URL is well known.
    pub(super) base_url: Option<&'static str>,
}

/// What stands for a vendor's name, in any case.
pub(super) fn vendor(name: &str) -> Vendor {
    let name = name.trim().to_lowercase();
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, provider_type)| *provider_type);
    if let Some(provider_type) = name.parse().ok().or(alias) {
        return Vendor { provider_type, is_known_type: true, base_url: None };
    }
    let base_url = COMPATIBLE.iter().find(|(vendor, _)| *vendor == name).map(|(_, base_url)| *base_url);
    Vendor { provider_type: ProviderType::Compatible, is_known_type: false, base_url }
}

/// A base URL of another system in the form that the vendor's SDK takes: other systems leave out the version that SDKs
/// of OpenAI's shape have. What names a version anywhere is taken as it is. `base_url` is checked.
pub(super) fn with_version(provider_type: ProviderType, base_url: &str) -> String {
    let Ok(url) = Url::parse(base_url) else { return base_url.to_owned() };
    let path = url.path().trim_matches('/');
    match provider_type {
        ProviderType::Openai | ProviderType::Compatible => {}
        // The only form of Azure's that needs no API version.
        ProviderType::Azure if path.is_empty() => return format!("{}/openai/v1", base_url.trim_end_matches('/')),
        _ => return base_url.to_owned(),
    }
    let own_form = COMPATIBLE.iter().map(|(_, known)| *known).find(|known| {
        let known = Url::parse(known).ok();
        known.is_some_and(|known| known.host() == url.host() && known.scheme() == url.scheme())
    });
    match own_form {
        Some(known) if path.is_empty() => known.to_owned(),
        _ if path.split('/').any(is_version) => base_url.to_owned(),
        _ => format!("{}/v1", base_url.trim_end_matches('/')),
    }
}

/// `v1`, `v1beta`, `v4`.
fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base_url;

    #[test]
    fn every_base_url_of_the_table_is_good_and_kept_as_it_is() {
        for (name, url) in COMPATIBLE {
            assert_eq!(base_url::parse(url).as_deref(), Ok(*url), "{name}");
            assert_eq!(with_version(ProviderType::Compatible, url), *url, "{name}");
            assert!(name.parse::<ProviderType>().is_err(), "{name} is a provider type");
        }
    }

    #[test]
    fn names_of_other_systems_find_their_type() {
        assert_eq!(vendor(" OpenAI ").provider_type, ProviderType::Openai);
        assert_eq!(vendor("vertexai").provider_type, ProviderType::Vertex);
        assert_eq!(vendor("deepseek").base_url, Some("https://api.deepseek.com/v1"));
        for unknown in ["ollama", "custom", ""] {
            let found = vendor(unknown);
            assert_eq!((found.provider_type, found.base_url), (ProviderType::Compatible, None), "{unknown}");
            assert!(!found.is_known_type);
        }
    }

    #[test]
    fn a_base_url_gets_the_version_that_the_sdk_has() {
        use ProviderType::{Anthropic, Azure, Compatible, Gemini, Openai};
        let cases = [
            (Openai, "https://api.openai.com", "https://api.openai.com/v1"),
            (Openai, "https://api.openai.com/v1", "https://api.openai.com/v1"),
            (Compatible, "https://llm.example.com/openai", "https://llm.example.com/openai/v1"),
            (Compatible, "https://open.bigmodel.cn", "https://open.bigmodel.cn/api/paas/v4"),
            (Compatible, "https://api.perplexity.ai", "https://api.perplexity.ai"),
            (Compatible, "https://h/v1beta/openai", "https://h/v1beta/openai"),
            (Compatible, "http://10.0.0.5:11434", "http://10.0.0.5:11434/v1"),
            (Anthropic, "https://api.anthropic.com", "https://api.anthropic.com"),
            (Gemini, "https://g.example.com", "https://g.example.com"),
            (Azure, "https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1"),
        ];
        for (provider_type, text, expected) in cases {
            assert_eq!(with_version(provider_type, text), expected, "{text}");
        }
    }
}
