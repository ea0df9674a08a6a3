//! LLM dialects: request peek and splice, SSE codec, usage extraction, error shapes. Bytes in, bytes out. Pure.
