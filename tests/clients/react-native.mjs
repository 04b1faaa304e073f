// Provides the globals of React Native that the SDK relies on, for `node --import`: its axios sends
// through XMLHttpRequest, which leaves out headers that other platforms' transports add.
globalThis.XMLHttpRequest = class XMLHttpRequest {
  onloadend = null;
  onerror = null;
  #request = { headers: {} };
  #headers = new Headers();

  open(method, url) {
    this.responseURL = url;
    this.#request.method = method;
  }

  setRequestHeader(name, value) {
    this.#request.headers[name] = value;
  }

  async send(body) {
    try {
      const response = await fetch(this.responseURL, { ...this.#request, body });
      this.responseText = await response.text();
      this.status = response.status;
      this.statusText = response.statusText;
      this.#headers = response.headers;
    } catch (error) {
      this.onerror(error);
      return;
    }
    this.onloadend();
  }

  getAllResponseHeaders() {
    return [...this.#headers].map(([name, value]) => `${name}: ${value}`).join('\r\n');
  }
};
