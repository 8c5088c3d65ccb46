// Player: position, seeking and the audio file, which may be missing.

class Player {
  // onTime(time, {moved}) is called at every change of the position; `moved` by a jump, not by playing.
  constructor(annotation, onTime) {
    this.annotation = annotation;
    this.onTime = onTime;
    this.time = 0;
    this.nextShown = null; // function (time) -> start of the next matching segment, null within one, or Infinity
    this.audio = byId('audio');
    this.audio.addEventListener('loadedmetadata', () => this.ready());
    this.audio.addEventListener('error', () => this.missing());
    for (const event of ['play', 'pause', 'ended']) this.audio.addEventListener(event, () => this.showState());
    this.audio.addEventListener('play', () => this.tick());
    byId('play').addEventListener('click', () => this.toggle());
    byId('rate').addEventListener('change', () => this.setRate(Number(byId('rate').value)));
    byId('file').addEventListener('change', () => this.choose(byId('file').files[0]));
    this.audio.src = annotation.audio;
  }

  get loaded() {
    return this.audio.readyState >= HTMLMediaElement.HAVE_METADATA;
  }

  ready() {
    this.audio.currentTime = this.time;
    const { duration } = this.annotation;
    const found = this.audio.duration;
    const differs = Number.isFinite(found) && Math.abs(found - duration) > Math.max(0.5, 0.002 * duration);
    const text = `The audio is ${formatTime(found, 1)} long, the annotation ${formatTime(duration, 1)}: is it another file?`;
    notify(differs ? text : '', differs);
  }

  missing() {
    const name = this.annotation.audio.startsWith('data:') ? 'The audio of the page' : this.annotation.file || 'The audio file';
    notify(`${name} is not beside this page or cannot be played by this browser.`, true);
    this.showState();
  }

  choose(file) {
    if (!file) return;
    URL.revokeObjectURL(this.chosen);
    this.chosen = URL.createObjectURL(file);
    this.audio.src = this.chosen;
  }

  toggle() {
    if (!this.loaded) {
      if (this.audio.error) this.missing();
      return;
    }
    if (!this.audio.paused) {
      this.audio.pause();
      return;
    }
    this.setRate(Number(byId('rate').value));
    // A rejection is also reported as an event of the element, or is a pause before the start.
    this.audio.play().catch(() => this.showState());
  }

  seek(time) {
    this.time = Math.min(Math.max(time, 0), this.annotation.duration);
    if (this.loaded) this.audio.currentTime = this.time;
    this.onTime(this.time, { moved: true });
  }

  setRate(rate) {
    this.audio.playbackRate = rate;
    this.audio.preservesPitch = true;
    byId('rate').value = String(rate);
  }

  changeRate(step) {
    const options = [...byId('rate').options].map((option) => Number(option.value));
    const position = options.indexOf(Number(byId('rate').value)) + step;
    this.setRate(options[Math.min(Math.max(position, 0), options.length - 1)]);
  }

  tick() {
    if (this.audio.paused) return;
    if (!this.audio.seeking) {
      this.time = this.audio.currentTime;
      const next = byId('only-shown').checked && this.nextShown ? this.nextShown(this.time) : null;
      if (next === Infinity) this.audio.pause();
      else if (next !== null) this.seek(next);
      else this.onTime(this.time, { moved: false });
    }
    requestAnimationFrame(() => this.tick());
  }

  showState() {
    const playing = !this.audio.paused && !this.audio.ended;
    byId('play').classList.toggle('playing', playing);
    byId('play').setAttribute('aria-label', playing ? 'Pause' : 'Play');
    byId('play').classList.toggle('unavailable', Boolean(this.audio.error));
  }
}

// Shows a message above the player; '' hides it.
function notify(text, choose) {
  byId('notice').hidden = !text;
  byId('choose').hidden = !choose;
  byId('notice-text').textContent = text;
}
