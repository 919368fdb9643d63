"""`/v1/responses`: the part of OpenAI's Responses API that clients of agents send to a model without tools."""
