/* Tables: made when opened, sorted, filtered, their columns switched, copied; the heat map leads to curves; tips. */
(function () {
  'use strict';
  var app = window.robustiqa;
  var all = function (within, what) { return Array.prototype.slice.call(within.querySelectorAll(what)); };

  function element(name, attributes, text) {
    var made = document.createElement(name);
    Object.keys(attributes || {}).forEach(function (key) { made.setAttribute(key, attributes[key]); });
    if (text) made.textContent = text;
    return made;
  }

  /* Tips: what a head or a mark means, on focus and under the pointer. */
  var tip = element('div', { id: 'tip', role: 'tooltip' });
  tip.hidden = true;
  document.body.appendChild(tip);
  function showTip(event) {
    var at = event.target.closest ? event.target.closest('[title],[data-tip]') : null;
    if (at && at.closest('svg')) return;
    if (!at) { hideTip(); return; }
    if (at.title) { at.setAttribute('data-tip', at.title); at.removeAttribute('title'); }
    tip.textContent = at.getAttribute('data-tip');
    tip.hidden = false;
    var box = at.getBoundingClientRect(), width = tip.offsetWidth, height = tip.offsetHeight;
    tip.style.left = Math.max(4, Math.min(box.left, innerWidth - width - 4)) + 'px';
    tip.style.top = (box.bottom + height + 8 < innerHeight ? box.bottom + 4 : Math.max(4, box.top - height - 4)) + 'px';
    (event.target.closest('button') || at).setAttribute('aria-describedby', 'tip');
  }
  function hideTip() { tip.hidden = true; }
  document.addEventListener('focusin', showTip);
  document.addEventListener('mouseover', showTip);
  document.addEventListener('focusout', hideTip);
  document.addEventListener('keydown', function (event) { if (event.key === 'Escape') hideTip(); });
  addEventListener('scroll', hideTip, { passive: true });

  /* Numbers as the tables print them. */
  function value(cell) {
    var text = cell.textContent.replace(/−/g, '-').trim(), parts = text.split('/');
    if (!/^[-+]?[\d.]/.test(text)) return NaN;
    return parts.length === 2 ? parts[0] / parts[1] : Number(text);
  }

  function make(details) {
    var kept = details.querySelector('noscript');
    if (!kept) return;
    var box = element('div');
    box.innerHTML = kept.textContent;
    var tools = element('div', { 'class': 'tools' }), found = element('output', { 'aria-live': 'polite' });
    var label = element('label', {}, 'Filter rows '), words = element('input', { type: 'search', autocomplete: 'off' });
    label.appendChild(words);
    tools.appendChild(label);
    [['ci', 'Intervals'], ['more', 'More columns']].forEach(function (kind) {
      if (!box.querySelector('th[data-kind=' + kind[0] + ']')) return;
      var option = element('label'), tick = element('input', { type: 'checkbox', name: kind[0] });
      option.appendChild(tick);
      option.appendChild(document.createTextNode(' ' + kind[1]));
      tick.addEventListener('change', function () { details.classList.toggle(kind[0], tick.checked); });
      tools.appendChild(option);
    });
    [['CSV', csv], ['Markdown', markdown], ['LaTeX', latex]].forEach(function (form) {
      var button = element('button', { type: 'button' }, 'Copy ' + form[0]);
      button.addEventListener('click', function () {
        copy(form[1](grid(details), details), function (done) { found.textContent = done ? form[0] + ' copied' : 'Press Ctrl+C'; });
      });
      tools.appendChild(button);
    });
    tools.appendChild(found);
    words.addEventListener('input', function () {
      var wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean), shown = 0;
      all(details, 'tbody tr').forEach(function (row) {
        var text = row.textContent.toLowerCase().replace(/−/g, '-') + ' ' + all(row, 'th,td').map(function (c) { return c.textContent; }).join(' ').toLowerCase();
        row.hidden = !wanted.every(function (word) { return text.indexOf(word) >= 0; });
        if (!row.hidden) shown += 1;
      });
      found.textContent = shown + ' of ' + details.querySelectorAll('tbody tr').length + ' rows';
    });
    kept.parentNode.insertBefore(tools, kept);
    kept.parentNode.replaceChild(box.firstChild, kept);
    all(details, 'tbody tr').forEach(function (row, place) { row.robustiqaPlace = place; });
    all(details, 'thead th').forEach(function (head) {
      var button = element('button', { type: 'button' }, head.textContent);
      head.textContent = '';
      head.appendChild(button);
      button.addEventListener('click', function () { turn(details, head); });
    });
  }

  /* A click sorts best first, the next one the other way, a third as it was. */
  function turn(details, head) {
    var way = head.getAttribute('data-way'), type = head.getAttribute('data-type');
    var first = type === 'number' && way !== 'lower' ? 'desc' : 'asc', other = first === 'asc' ? 'desc' : 'asc';
    var now = (app.state.sort || '').split('~'), name = head.getAttribute('data-column');
    var mine = now[0] === details.id && now[1] === name ? now[2] : '';
    var next = mine === '' ? first : mine === first ? other : '';
    app.set('sort', next ? [details.id, name, next].join('~') : '');
    if (!next) sort(details, null, '');
  }

  function sort(details, head, way) {
    var body = details.querySelector('tbody'), rows = all(details, 'tbody tr'), sign = way === 'desc' ? -1 : 1;
    all(details, 'thead th').forEach(function (other) { other.removeAttribute('aria-sort'); });
    if (!head) rows.sort(function (a, b) { return a.robustiqaPlace - b.robustiqaPlace; });
    else {
      var place = head.cellIndex, numbers = head.getAttribute('data-type') === 'number';
      head.setAttribute('aria-sort', way === 'desc' ? 'descending' : 'ascending');
      rows.forEach(function (row) { row.robustiqaKey = numbers ? value(row.cells[place]) : row.cells[place].textContent; });
      rows.sort(function (a, b) {
        var x = a.robustiqaKey, y = b.robustiqaKey;
        if (numbers && (isNaN(x) || isNaN(y))) return isNaN(x) - isNaN(y) || a.robustiqaPlace - b.robustiqaPlace;
        return (numbers ? x - y : x.localeCompare(y, 'en', { numeric: true })) * sign || a.robustiqaPlace - b.robustiqaPlace;
      });
    }
    rows.forEach(function (row) { body.appendChild(row); });
  }

  document.addEventListener('toggle', function (event) {
    if (event.target.matches && event.target.matches('details.table') && event.target.open) make(event.target);
  }, true);

  app.on(function (state, changed) {
    if (changed.indexOf('sort') < 0 || !state.sort) return;
    var wanted = state.sort.split('~'), details = document.getElementById(wanted[0]);
    if (!details || !details.matches('details.table')) return;
    details.open = true;
    make(details);
    all(details, 'thead th').forEach(function (head) {
      if (head.getAttribute('data-column') === wanted[1]) sort(details, head, wanted[2]);
    });
  });

  /* What is seen, as texts: heads, then rows; numbers with a plain minus. */
  function grid(details) {
    var seen = all(details, 'thead th').map(function (head) { return getComputedStyle(head).display !== 'none'; });
    return all(details, 'thead tr,tbody tr').filter(function (row) { return !row.hidden; }).map(function (row) {
      return all(row, 'th,td').filter(function (cell, place) { return seen[place]; }).map(function (cell) {
        return cell.textContent.trim().replace(/^−(?=[\d.])/, '-');
      });
    });
  }
  function csv(rows) {
    return rows.map(function (row) {
      return row.map(function (text) {
        if (/^[=@\t\r]/.test(text) || /^[-+](?![\d.])/.test(text)) text = "'" + text;
        return /[",\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
      }).join(',');
    }).join('\n') + '\n';
  }
  function markdown(rows, details) {
    var lines = rows.map(function (row) {
      return '| ' + row.map(function (text) { return text.replace(/([\\`*_{}\[\]<>|~$])/g, '\\$1'); }).join(' | ') + ' |';
    });
    var ends = all(details, 'thead th').filter(function (head) { return getComputedStyle(head).display !== 'none'; });
    lines.splice(1, 0, '|' + ends.map(function (head) { return head.getAttribute('data-type') === 'number' ? '---:' : '---'; }).join('|') + '|');
    return lines.join('\n') + '\n';
  }
  var TEX = { '\\': '\\textbackslash{}', '~': '\\textasciitilde{}', '^': '\\textasciicircum{}', '−': '$-$', '–': '--', 'σ': '$\\sigma$', 'ε': '$\\varepsilon$', 'τ': '$\\tau$', '↑': '$\\uparrow$', '↓': '$\\downarrow$', '†': '$\\dagger$', '⚑': '$\\ddagger$', '±': '$\\pm$' };
  function tex(text) {
    return text.replace(/^-(?=[\d.])/, '−').replace(/[\\{}_&%#$~^−–σετ↑↓†⚑±]/g, function (c) { return TEX[c] || '\\' + c; });
  }
  function latex(rows, details) {
    var ends = all(details, 'thead th').filter(function (head) { return getComputedStyle(head).display !== 'none'; });
    var lines = rows.map(function (row) { return row.map(tex).join(' & ') + ' \\\\'; });
    return '% needs \\usepackage{booktabs}\n% ' + details.querySelector('caption').textContent.replace(/\s+/g, ' ') + '\n\\begin{tabular}{' +
      ends.map(function (head) { return head.getAttribute('data-type') === 'number' ? 'r' : 'l'; }).join('') + '}\n\\toprule\n' +
      lines[0] + '\n\\midrule\n' + lines.slice(1).join('\n') + '\n\\bottomrule\n\\end{tabular}\n';
  }
  function copy(text, then) {
    document.documentElement.robustiqaCopied = text;
    function plainly() {
      var field = element('textarea', { 'aria-label': 'Text to copy' });
      field.value = text;
      document.body.appendChild(field);
      field.select();
      var done = false;
      try { done = document.execCommand('copy'); } catch (refused) { done = false; }
      document.body.removeChild(field);
      then(done);
    }
    if (navigator.clipboard && isSecureContext) navigator.clipboard.writeText(text).then(function () { then(true); }, plainly);
    else plainly();
  }

  /* The heat map: a number leads to its curve; arrows walk over the numbers. */
  all(document, 'table.heat').forEach(function (table) {
    all(table, 'td button').forEach(function (button, place) { button.tabIndex = place ? -1 : 0; });
  });
  document.addEventListener('click', function (event) {
    var cell = event.target.closest ? event.target.closest('table.heat td') : null;
    if (!cell || !event.target.closest('button')) return;
    var head = cell.closest('table').tHead.rows[0].cells[cell.cellIndex];
    app.set({ metric: cell.parentNode.getAttribute('data-metric'), attack: head.getAttribute('data-attack') });
    app.go('strength');
  });
  document.addEventListener('keydown', function (event) {
    var step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    var cell = event.target.closest ? event.target.closest('table.heat td') : null;
    if (!step || !cell) return;
    var row = cell.closest('table').rows[cell.parentNode.rowIndex + step[0]], next = row && row.cells[cell.cellIndex + step[1]];
    var button = next && next.querySelector('button');
    if (!button) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    button.tabIndex = 0;
    button.focus();
  });
})();
