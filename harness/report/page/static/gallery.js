/* The gallery: a slider between distorted and attacked image, a button that blinks, and the change, signed around grey. */
(function () {
  'use strict';
  var section = document.getElementById('gallery');
  if (!section) return;
  var SCALES = [1, 2, 4, 8, 16, 32, 64];

  function element(name, attributes, text) {
    var made = document.createElement(name);
    Object.keys(attributes || {}).forEach(function (key) { made.setAttribute(key, attributes[key]); });
    if (text) made.textContent = text;
    return made;
  }

  function tool(box, caption) {
    var figure = element('figure', { 'class': 'tool' });
    figure.appendChild(box);
    figure.appendChild(caption);
    return figure;
  }

  /* Right of the edge the distorted image, left of it the attacked one; while the button is held, the attacked one alone. */
  function comparison(distorted, attacked) {
    var stage = element('div', { 'class': 'stage' }), edge = element('div', { 'class': 'edge' });
    var below = distorted.cloneNode(true), above = attacked.cloneNode(true), caption = element('figcaption');
    var slider = element('input', { type: 'range', min: 0, max: 100, value: 50, 'aria-label': 'Share of the attacked image' });
    var button = element('button', { type: 'button', 'aria-pressed': 'false' }, 'Hold to see it attacked');
    var held = false;
    function show() {
      var share = held ? 100 : Number(slider.value);
      above.style.clipPath = 'inset(0 ' + (100 - share) + '% 0 0)';
      edge.style.left = share + '%';
      edge.hidden = held;
      slider.setAttribute('aria-valuetext', slider.value + ' % attacked, the rest distorted');
      button.setAttribute('aria-pressed', String(held));
    }
    function hold(down) {
      return function (event) {
        if (event.type.indexOf('key') === 0 && event.key !== ' ' && event.key !== 'Enter') return;
        if (event.type.indexOf('key') === 0) event.preventDefault();
        if (down && !held && Number(slider.value) > 0) slider.value = 0;
        held = down;
        show();
      };
    }
    function drag(event) {
      if (event.type === 'pointermove' && !(event.buttons & 1)) return;
      var place = stage.getBoundingClientRect();
      slider.value = Math.round(100 * (event.clientX - place.left) / place.width);
      show();
    }
    slider.addEventListener('input', show);
    stage.addEventListener('pointerdown', drag);
    stage.addEventListener('pointermove', drag);
    button.addEventListener('pointerdown', hold(true));
    button.addEventListener('keydown', hold(true));
    ['pointerup', 'pointerleave', 'pointercancel', 'keyup', 'blur'].forEach(function (name) {
      button.addEventListener(name, function (event) { if (held) hold(false)(event); });
    });
    button.addEventListener('contextmenu', function (event) { event.preventDefault(); });
    [below, above, edge].forEach(function (part) { stage.appendChild(part); });
    caption.appendChild(document.createTextNode('Attacked | distorted'));
    caption.appendChild(slider);
    caption.appendChild(button);
    show();
    return tool(stage, caption);
  }

  function pixels(id, width, height, then) {
    var source = document.getElementById(id), image = new Image();
    image.onload = function () {
      var canvas = element('canvas', { width: width, height: height }), context = canvas.getContext('2d');
      context.drawImage(image, 0, 0);
      then(context.getImageData(0, 0, width, height).data);
    };
    image.src = source.getAttribute('href');
  }

  function change(ids, width, height, scale) {
    var canvas = element('canvas', { width: width, height: height, role: 'img' }), caption = element('figcaption');
    var choice = element('select', { 'aria-label': 'How much the change is amplified' });
    var before = null, after = null;
    SCALES.forEach(function (one) { choice.appendChild(element('option', { value: one }, '× ' + one)); });
    choice.value = String(Math.min(64, Math.max(1, scale)));
    function draw() {
      if (!before || !after) return;
      var context = canvas.getContext('2d'), drawn = context.createImageData(width, height), factor = Number(choice.value);
      for (var i = 0; i < before.length; i += 1) {
        drawn.data[i] = i % 4 === 3 ? 255 : 128 + factor * (after[i] - before[i]);
      }
      context.putImageData(drawn, 0, 0);
      canvas.setAttribute('aria-label', 'The change of every pixel, ' + factor + ' times, grey where there is none');
    }
    choice.addEventListener('change', draw);
    pixels(ids[0], width, height, function (data) { before = data; draw(); });
    pixels(ids[1], width, height, function (data) { after = data; draw(); });
    caption.appendChild(document.createTextNode('Change, grey is none '));
    caption.appendChild(choice);
    return tool(canvas, caption);
  }

  function equip(item) {
    var row = item.querySelector('.pictures');
    if (row.classList.contains('tooled')) return;
    var figures = row.querySelectorAll('figure[data-picture]');
    var ids = [1, 2].map(function (place) { return figures[place].getAttribute('data-picture'); });
    var size = ['width', 'height', 'scale'].map(function (key) { return Number(item.getAttribute('data-' + key)); });
    row.classList.add('tooled');
    row.appendChild(comparison(figures[1].querySelector('svg'), figures[2].querySelector('svg')));
    row.appendChild(change(ids, size[0], size[1], size[2]));
  }

  /* Pictures that are folded away wait until they are unfolded. */
  section.querySelectorAll('details.shown-metric').forEach(function (details) {
    function unfolded() { if (details.open) details.querySelectorAll('.case').forEach(equip); }
    details.addEventListener('toggle', unfolded);
    unfolded();
  });

  if (window.robustiqa) window.robustiqa.on(function (state, changed) {
    if (changed.indexOf('metric') < 0 || !state.metric) return;
    section.querySelectorAll('details.shown-metric').forEach(function (details) {
      var metric = details.getAttribute('data-metric');
      if (state.metric === metric || state.metric.indexOf(metric + ' ') === 0) details.open = true;
    });
  });
})();
