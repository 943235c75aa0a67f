// The interface's documentation, drawn from the server's own OpenAPI document.

const element = (tag, text, attributes = {}) => {
  const made = Object.assign(document.createElement(tag), attributes);
  if (text) made.textContent = text;
  return made;
};

const curlLines = (base) => `# audio, as it is: the best three pdfs of each frame
curl --data-binary @speech.wav '${base}v1/posteriors?output=posterior&top_k=3'
# a form
curl -F file=@speech.flac '${base}v1/posteriors?output=log_posterior'
# features in, Kaldi archive out
curl -H 'Content-Type: application/x-npy' -H 'Accept: application/x-kaldi-ark' \\
     --data-binary @feats.npy '${base}v1/posteriors?output=log_likelihood&utt_id=utt1' > utt1.ark
# where the server has API keys
curl -H 'X-API-Key: KEY' --data-binary @speech.wav '${base}v1/posteriors'`;

// Who may ask, of the schemes of which one is needed.
const needed = (security) => {
  if (security.some((one) => "adminToken" in one)) return "Needs the admin token.";
  if (!security.length || security.some((one) => !Object.keys(one).length)) return "Needs no key.";
  return "Needs an API key.";
};

const table = (heads, rows) => {
  const made = element("table");
  const head = made.createTHead().insertRow();
  for (const text of heads) head.append(element("th", text, { scope: "col" }));
  const body = made.createTBody();
  for (const cells of rows) {
    const row = body.insertRow();
    for (const cell of cells) row.append(element("td", String(cell)));
  }
  return made;
};

const typeOf = (schema) =>
  schema.enum?.join(" | ") ?? schema.anyOf?.map(typeOf).join(" or ") ?? schema.type ?? "";

const operation = (path, method, described, security) => {
  const made = element("details");
  const summary = element("summary");
  summary.append(element("span", method.toUpperCase(), { className: "method" }), element("code", path));
  made.append(summary, element("p", described.description ?? ""));
  made.append(element("p", needed(described.security ?? security)));
  if (described.requestBody) {
    made.append(element("p", `Body: ${described.requestBody.description ?? ""}`));
    made.append(element("p", `Types: ${Object.keys(described.requestBody.content).join(", ")}`));
  }
  if (described.parameters?.length) {
    const rows = described.parameters.map((parameter) => [
      parameter.name, parameter.in, typeOf(parameter.schema), parameter.schema.default ?? "",
      parameter.description ?? "",
    ]);
    made.append(table(["parameter", "in", "type", "default", "meaning"], rows));
  }
  const answers = Object.entries(described.responses).map(([status, answer]) => [
    status, answer.description, Object.keys(answer.content ?? {}).join(", "),
  ]);
  made.append(table(["status", "meaning", "types"], answers));
  return made;
};

const show = async () => {
  const base = new URL("./", location.href).href;
  document.getElementById("curl").textContent = curlLines(base);
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  const api = await answer.json();
  document.getElementById("title").textContent = `${api.info.title} ${api.info.version}: interface`;
  document.getElementById("description").replaceChildren(
    ...api.info.description.split("\n\n").map((text) => element("p", text)),
  );
  const shown = document.getElementById("operations");
  shown.replaceChildren(element("h2", "Operations"));
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, described] of Object.entries(methods))
      shown.append(operation(path, method, described, api.security));
};

show().catch((error) => {
  document.getElementById("operations").textContent = `openapi.json could not be read: ${error.message}`;
});
