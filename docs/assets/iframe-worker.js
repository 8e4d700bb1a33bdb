// A page that was opened from the disk may start no worker, and the search is one: there it runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #frame = document.createElement("iframe")
    #ready

    constructor(address) {
      super()
      this.#frame.hidden = true
      document.body.append(this.#frame)
      const inside = this.#frame.contentWindow
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.#ready = new Promise(loaded => {
        const script = inside.document.createElement("script")
        script.src = new URL(address, location)
        script.onload = loaded
        inside.document.body.append(script)
      })
    }

    postMessage(data) {
      const inside = this.#frame.contentWindow
      this.#ready.then(() => inside.dispatchEvent(new inside.MessageEvent("message", { data })))
    }
  }
}
