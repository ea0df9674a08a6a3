//! The parts of a request body that decide the answer, in all dialects at once.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

/// A request body. Everything is optional here; what an operation requires is checked where it is served.
#[derive(Default, Deserialize)]
pub(super) struct Ask<'a> {
    pub(super) model: Option<String>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    #[serde(borrow)]
    pub(super) messages: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) contents: Option<&'a RawValue>,
    /// A whole request, whose tokens are to be counted.
    #[serde(rename = "generateContentRequest", borrow)]
    pub(super) counted: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) prompt: Option<&'a RawValue>,
    pub(super) requests: Option<Vec<EmbedAsk>>,
    pub(super) documents: Option<Vec<IgnoredAny>>,
    pub(super) top_n: Option<usize>,
    pub(super) previous_response_id: Option<String>,
    pub(super) store: Option<bool>,
    pub(super) response_format: Option<Value>,
    pub(super) max_tokens: Option<u64>,
    pub(super) tools: Option<Vec<Value>>,
    pub(super) tool_choice: Option<Value>,
    #[serde(rename = "toolConfig", alias = "tool_config")]
    pub(super) tool_config: Option<Value>,
    pub(super) encoding_format: Option<String>,
    pub(super) dimensions: Option<u32>,
    #[serde(rename = "outputDimensionality", alias = "output_dimensionality")]
    pub(super) output_dimensionality: Option<u32>,
    /// Whether it came as a form.
    #[serde(skip)]
    pub(super) is_form: bool,
}

/// One of the requests of Gemini's `batchEmbedContents`.
#[derive(Deserialize)]
pub(super) struct EmbedAsk {
    #[serde(rename = "outputDimensionality", alias = "output_dimensionality")]
    pub(super) output_dimensionality: Option<u32>,
}

/// OpenAI's `stream_options`.
#[derive(Deserialize)]
pub(super) struct StreamOptions {
    pub(super) include_usage: Option<bool>,
}

impl Ask<'_> {
    pub(super) fn parse(body: &[u8]) -> Result<Ask<'_>, serde_json::Error> {
        serde_json::from_slice(body)
    }

    pub(super) fn wants_stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(super) fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// Whether a transcription is asked for as text instead of JSON.
    pub(super) fn wants_text(&self) -> bool {
        self.response_format.as_ref().and_then(Value::as_str) == Some("text")
    }

    /// Numbers per embedding of a Gemini request.
    pub(super) fn output_dimensions(&self, default: u32) -> u32 {
        self.output_dimensionality.unwrap_or(default)
    }

    /// `tool_choice` none in the dialect's way of saying it.
    pub(super) fn forbids_tools(&self) -> bool {
        let choice = self.tool_choice.as_ref();
        let said = choice.and_then(|choice| choice.as_str().or_else(|| choice["type"].as_str()));
        said == Some("none") || self.function_calling_config().is_some_and(|config| config["mode"] == "NONE")
    }

    /// The tool that the request insists on.
    pub(super) fn forced_tool(&self) -> Option<&str> {
        if let Some(choice) = &self.tool_choice {
            return choice["function"]["name"].as_str().or_else(|| choice["name"].as_str());
        }
        self.function_calling_config()?["allowedFunctionNames"].get(0)?.as_str()
    }

    /// Whether the conversation ends with the result of a tool.
    pub(super) fn ends_with_tool_result(&self) -> bool {
        let turns = self.messages.or(self.input).or(self.contents);
        let turns: Option<Vec<Value>> = turns.and_then(|turns| serde_json::from_str(turns.get()).ok());
        let Some(last) = turns.as_ref().and_then(|turns| turns.last()) else { return false };
        let holds =
            |list: &Value, test: fn(&Value) -> bool| list.as_array().is_some_and(|parts| parts.iter().any(test));
        last["role"] == "tool"
            || last["type"] == "function_call_output"
            || holds(&last["content"], |block| block["type"] == "tool_result")
            || holds(&last["parts"], |part| {
                part.get("functionResponse").or_else(|| part.get("function_response")).is_some()
            })
    }

    fn function_calling_config(&self) -> Option<&Value> {
        let config = self.tool_config.as_ref()?;
        config.get("functionCallingConfig").or_else(|| config.get("function_calling_config"))
    }
}
