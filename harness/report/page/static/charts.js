/* Figures: A minus B, what is emphasised, downloads. */
(function () {
  'use strict';
  var page = window.robustiqa, all = document.querySelectorAll('.chart');
  if (!page || !all.length) return;
  var data = page.data.difference || {};

  function signed(value) {
    var text = Math.abs(value / 100000).toFixed(2);
    return text === '0.00' ? text : (value < 0 ? '\u2212' : '+') + text;
  }

  function figure(one) {
    if (one[0] === null) return '';
    var ends = one[1] === null ? '\u2013' : signed(one[1]) + ', ' + signed(one[2]);
    return signed(one[0]) + ' [' + ends + ']';
  }

  function place(row, one, axis) {
    function x(value) {
      var within = Math.min(Math.max(value / 100000, axis[0]), axis[1]);
      return (axis[2] + (within - axis[0]) / (axis[1] - axis[0]) * (axis[3] - axis[2])).toFixed(2);
    }
    var line = row.querySelector('path'), spot = row.querySelector('circle'), y = spot.getAttribute('cy');
    var known = one && one[0] !== null, ends = known && one[1] !== null;
    line.setAttribute('d', 'M' + x(ends ? one[1] : 0) + ' ' + y + 'L' + x(ends ? one[2] : 0) + ' ' + y);
    spot.setAttribute('cx', x(known ? one[0] : 0));
    spot.setAttribute('visibility', known ? 'visible' : 'hidden');
    spot.setAttribute('fill', ends && (one[1] > 0 || one[2] < 0) ? spot.getAttribute('stroke') : 'var(--ground)');
    row.querySelector('text:last-of-type').textContent = known ? figure(one) : '';
  }

  function chosen(own, state) {
    var keys = Object.keys(own.choices), key = [state.norm, state.eps, state.direction].join('+');
    if (own.choices[key]) return own.choices[key];
    var same = keys.filter(function (one) { return one.indexOf(state.norm + '+' + state.eps + '+') === 0; });
    return own.choices[same[0] || keys[0]];
  }

  function compare(chart, state) {
    var own = data[chart.getAttribute('data-dataset')], svg = chart.querySelector('svg');
    var a = own.metrics.indexOf(state.a), b = own.metrics.indexOf(state.b);
    if (a < 0) a = b === 0 ? 1 : 0;
    if (b < 0 || b === a) b = a === 0 ? 1 : 0;
    var attack = own.typed.indexOf(state.attack);
    if (attack < 0) attack = Math.min(1, own.typed.length - 1);
    var choice = chosen(own, state), pair = choice.pairs[Math.min(a, b) + ',' + Math.max(a, b)];
    function turned(one) {
      if (!one || a < b) return one;
      return [one[0] === null ? null : -one[0], one[2] === null ? null : -one[2], one[1] === null ? null : -one[1]];
    }
    var words = { a: 'A: ' + own.metrics[a], b: 'B: ' + own.metrics[b], choice: choice.says, under: 'by type, under ' + own.typed[attack] };
    Object.keys(words).forEach(function (name) {
      var text = svg.querySelector('[data-name="' + name + '"]');
      if (text) text.textContent = words[name];
    });
    var told = [];
    svg.querySelectorAll('[data-row]').forEach(function (row) {
      var key = row.getAttribute('data-row'), name = key.slice(2);
      var typed = key[0] === '1' ? pair[1][attack] || [] : pair[0];
      var one = turned(typed[(key[0] === '1' ? own.types : own.attacks).indexOf(name)]);
      place(row, one, own.axis);
      if (one && one[0] !== null) told.push((key[0] === '1' ? 'type ' : '') + name + ' ' + figure(one));
    });
    var description = own.metrics[a] + ' minus ' + own.metrics[b] + ' at ' + choice.says + ': ' + told.join('; ') + '.';
    svg.querySelector('desc').textContent = description;
    var values = { a: own.metrics[a], b: own.metrics[b], attack: own.typed[attack] };
    chart.querySelectorAll('select').forEach(function (select) { select.value = values[select.getAttribute('data-key')]; });
  }

  document.addEventListener('change', function (event) {
    var select = event.target;
    if (!select.matches || !select.matches('.chart .against select')) return;
    var wanted = {};
    select.parentNode.parentNode.querySelectorAll('select').forEach(function (one) { wanted[one.getAttribute('data-key')] = one.value; });
    var key = select.getAttribute('data-key'), other = key === 'a' ? 'b' : 'a';
    if (key !== 'attack' && wanted.a === wanted.b) delete wanted[other];
    if (key !== 'attack' && !(other in wanted)) wanted[other] = '';
    if (key !== 'attack') delete wanted.attack;
    page.set(wanted);
  });

  var seen = false;
  page.on(function (state, changed) {
    all.forEach(function (chart) {
      if (chart.id.indexOf('difference-') === 0 && data[chart.getAttribute('data-dataset')]) compare(chart, state);
      if (chart.id.indexOf('strength-') !== 0) return;
      var picked = seen && (changed.indexOf('attack') >= 0 || changed.indexOf('metric') >= 0) || location.hash.indexOf('attack=') >= 0;
      if (picked) chart.querySelectorAll('g[data-attack]').forEach(function (line) {
        line.classList.toggle('chosen', line.getAttribute('data-attack') === state.attack);
      });
      if (picked) chart.querySelectorAll('svg[data-panel]').forEach(function (panel) {
        panel.classList.toggle('chosen', panel.getAttribute('data-panel') === state.metric);
      });
    });
    seen = true;
  });

  /* The figure as it is seen, in the colours of paper: what several panels show becomes one picture. */
  function drawn(chart) {
    var shown = Array.prototype.filter.call(chart.querySelectorAll('.variants > *'), function (one) { return !one.hidden; })[0];
    var pictures = Array.prototype.slice.call(shown.querySelectorAll('svg')), gap = 18, columns = 2;
    var sizes = pictures.map(function (one) { return one.getAttribute('viewBox').split(' ').map(Number).slice(2); });
    var wide = 0, top = 0, strip = 0, body = '';
    pictures.forEach(function (one, number) {
      var column = number ? (number - 1) % columns : 0;
      if (number === 1) top = sizes[0][1] + gap / 2;
      else if (number && column === 0) { top += strip + gap; strip = 0; }
      var left = column * (sizes[number][0] + gap), copy = one.cloneNode(true);
      strip = number ? Math.max(strip, sizes[number][1]) : 0;
      wide = Math.max(wide, left + sizes[number][0]);
      [['x', left], ['y', top], ['width', sizes[number][0]], ['height', sizes[number][1]]].forEach(function (pair) { copy.setAttribute(pair[0], pair[1]); });
      ['class', 'role', 'aria-labelledby', 'data-panel'].forEach(function (name) { copy.removeAttribute(name); });
      copy.querySelectorAll('[id]').forEach(function (part) { part.removeAttribute('id'); });
      copy.querySelectorAll('[class]').forEach(function (part) { part.removeAttribute('class'); });
      body += new XMLSerializer().serializeToString(copy);
    });
    var tall = pictures.length > 1 ? top + strip : sizes[0][1], margin = 8;
    wide += 2 * margin; tall += 2 * margin;
    var text = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="' + [-margin, -margin, wide, tall].join(' ') + '" width="' + wide + '" height="' + tall + '">' +
      '<rect x="' + -margin + '" y="' + -margin + '" width="100%" height="100%" fill="#ffffff"/>' + body + '</svg>';
    return { text: text.replace(/var\(--([\w-]+)(?:,[^)]*)?\)/g, function (all, name) { return page.data.page.paper[name]; }), wide: wide, tall: tall, variant: shown };
  }

  function save(blob, name) {
    var link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = name;
    document.body.appendChild(link);
    link.click();
    link.remove();
    setTimeout(function () { URL.revokeObjectURL(link.href); }, 10000);
  }

  function asPng(picture, name) {
    var image = new Image();
    image.onload = function () {
      var canvas = document.createElement('canvas');
      canvas.width = 2 * picture.wide; canvas.height = 2 * picture.tall;
      canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(function (blob) { save(blob, name); }, 'image/png');
    };
    image.src = 'data:image/svg+xml;charset=utf-8,' + encodeURIComponent(picture.text);
  }

  document.addEventListener('click', function (event) {
    var button = event.target.closest ? event.target.closest('.downloads button[data-form]') : null;
    if (!button) return;
    var chart = button.closest('.chart'), picture = drawn(chart), form = button.getAttribute('data-form');
    var told = ['norm', 'eps', 'direction'].map(function (key) { return picture.variant.getAttribute('data-' + key); }).filter(Boolean);
    var name = [chart.getAttribute('data-file')].concat(told).join('_').replace(/[^\p{L}\p{N}_.-]+/gu, '-') + '.' + form;
    if (form === 'svg') save(new Blob([picture.text], { type: 'image/svg+xml' }), name);
    else asPng(picture, name);
  });
})();
