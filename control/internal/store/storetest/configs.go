// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"reflect"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// config creates a configuration with one draft.
func (w *world) config(name string) fleet.Config {
	w.Helper()
	id := newID[fleet.ConfigID]()
	first := w.draft(id, name+" 1")
	c, err := w.CreateConfig(w.Context(), w.by(), fleet.Config{
		ID: id, Tenant: w.tenant, Name: name, Description: "of tests", Kind: fleet.KindCollector, CreatedAt: w.now,
	}, &first)
	w.must(err)
	return c
}

// draft is a version with the bytes, which it stores.
func (w *world) draft(config fleet.ConfigID, clear string) fleet.ConfigVersion {
	w.Helper()
	hash, size := w.body(clear), int64(len(clear))
	return fleet.ConfigVersion{
		Tenant: w.tenant, Config: config, State: fleet.VersionDraft, Hash: hash, Offer: fleet.Rendered(hash, size, "text/yaml").OfferHash(),
		Size: size, ContentType: "text/yaml", Revision: 1, Note: "says " + clear, CreatedBy: "ci", CreatedAt: w.now,
		Semantic: fleet.SemanticHash(fleet.HashOf([]byte("means " + clear))), ChangedBy: "ci", ChangedAt: w.now,
	}
}

// next stores another draft of the configuration.
func (w *world) next(config fleet.ConfigID, clear string) fleet.ConfigVersion {
	w.Helper()
	v, err := w.CreateConfigVersion(w.Context(), w.by(), w.draft(config, clear))
	w.must(err)
	return v
}

func (w *world) publish(config fleet.ConfigID, version int) fleet.ConfigVersion {
	w.Helper()
	v, err := w.PublishConfigVersion(w.Context(), w.by(), fleet.Publication{Config: config, Version: version})
	w.must(err)
	return v
}

func (w *world) archive(config fleet.ConfigID, version int) error {
	_, err := w.ArchiveConfigVersion(w.Context(), w.by(), config, version)
	return err
}

// wantVersion checks what is stored.
func (w *world) wantVersion(want fleet.ConfigVersion) {
	w.Helper()
	got, err := w.ConfigVersion(w.Context(), w.tenant, want.Config, want.Version)
	w.must(err)
	if !reflect.DeepEqual(got, want) {
		w.Errorf("got %+v, want %+v", got, want)
	}
}

var configs = suite{
	"a configuration is found by id and by name": func(w *world) {
		c := w.config("edge")
		if c.Name != "edge" || c.Kind != fleet.KindCollector || c.Description != "of tests" || !c.CreatedAt.Equal(w.now) {
			w.Errorf("created %+v", c)
		}
		for _, key := range []string{string(c.ID), "edge"} {
			found, err := w.Config(w.Context(), w.tenant, key)
			w.must(err)
			if found != c {
				w.Errorf("by %s: got %+v, want %+v", key, found, c)
			}
			_, err = w.Config(w.Context(), "theirs", key)
			w.want(err, store.ErrNotFound)
		}
		_, err := w.Config(w.Context(), w.tenant, "core")
		w.want(err, store.ErrNotFound)
		w.wantAudit(string(c.ID), "config.create")
		w.wantAudit(string(c.ID)+"/1", "config_version.create")
	},
	"a configuration may begin without versions": func(w *world) {
		c, err := w.CreateConfig(w.Context(), w.by(), fleet.Config{ID: newID[fleet.ConfigID](), Name: "edge", Kind: fleet.KindOpaque, CreatedAt: w.now}, nil)
		w.must(err)
		if c.Latest != 0 || c.LatestPublished != 0 {
			w.Errorf("got %+v", c)
		}
		if v := w.next(c.ID, "first"); v.Version != 1 {
			w.Errorf("got %+v", v)
		}
	},
	"a configuration's name is taken, and a failure stores nothing of it": func(w *world) {
		w.config("edge")
		id := newID[fleet.ConfigID]()
		first := w.draft(id, "x")
		_, err := w.CreateConfig(w.Context(), w.by(), fleet.Config{ID: id, Name: "edge", Kind: fleet.KindCollector, CreatedAt: w.now}, &first)
		w.want(err, store.ErrExists)
		first.Hash = fleet.HashOf([]byte("not stored"))
		_, err = w.CreateConfig(w.Context(), w.by(), fleet.Config{ID: id, Name: "core", Kind: fleet.KindCollector, CreatedAt: w.now}, &first)
		w.want(err, store.ErrNotFound)
		_, err = w.Config(w.Context(), w.tenant, string(id))
		w.want(err, store.ErrNotFound)
		w.in("theirs").config("edge")
	},
	"configurations are listed by name": func(w *world) {
		var want []fleet.ConfigID
		for _, name := range []string{"Zoo", "a", "b", "b-2", "c"} {
			want = append(want, w.config(name).ID)
		}
		list := pages(w, func(page fleet.Page) ([]fleet.Config, string, error) {
			return w.Configs(w.Context(), w.tenant, fleet.ConfigFilter{}, page)
		})
		wantIDs(w, list, want, func(c fleet.Config) fleet.ConfigID { return c.ID })
	},
	"configurations are filtered": func(w *world) {
		edge := w.config("edge")
		w.publish(edge.ID, 1)
		w.config("edge-2")
		w.config("edg")
		w.config("edgf")
		opaque, err := w.CreateConfig(w.Context(), w.by(), fleet.Config{ID: newID[fleet.ConfigID](), Name: "edge-3", Kind: fleet.KindOpaque, CreatedAt: w.now}, nil)
		w.must(err)
		w.in("theirs").config("edge-4")
		for _, c := range []struct {
			filter fleet.ConfigFilter
			want   []string
		}{
			{fleet.ConfigFilter{}, []string{"edg", "edge", "edge-2", "edge-3", "edgf"}},
			{fleet.ConfigFilter{NamePrefix: "edge"}, []string{"edge", "edge-2", "edge-3"}},
			{fleet.ConfigFilter{NamePrefix: "edge", Kind: opaque.Kind}, []string{"edge-3"}},
			{fleet.ConfigFilter{NamePrefix: "edge", Drafts: true}, []string{"edge-2"}},
			{fleet.ConfigFilter{NamePrefix: "%"}, nil},
		} {
			list := pages(w, func(page fleet.Page) ([]fleet.Config, string, error) {
				return w.Configs(w.Context(), w.tenant, c.filter, page)
			})
			wantIDs(w, list, c.want, func(c fleet.Config) string { return c.Name })
		}
	},
	"versions are filtered": func(w *world) {
		c := w.config("edge")
		w.next(c.ID, "two")
		two := w.next(c.ID, "two")
		w.publish(c.ID, 1)
		w.publish(c.ID, 2)
		w.must(w.archive(c.ID, 1))
		for _, f := range []struct {
			filter fleet.VersionFilter
			want   []int
		}{
			{fleet.VersionFilter{}, []int{3, 2, 1}},
			{fleet.VersionFilter{State: fleet.VersionArchived}, []int{1}},
			{fleet.VersionFilter{Hash: two.Hash}, []int{3, 2}},
			{fleet.VersionFilter{Semantic: two.Semantic}, []int{3}}, // 2 was published as one that means nothing
			{fleet.VersionFilter{Hash: two.Hash, State: fleet.VersionDraft}, []int{3}},
			{fleet.VersionFilter{Hash: fleet.HashOf(nil)}, nil},
		} {
			list := pages(w, func(page fleet.Page) ([]fleet.ConfigVersion, string, error) {
				return w.ConfigVersions(w.Context(), w.tenant, c.ID, f.filter, page)
			})
			wantIDs(w, list, f.want, func(v fleet.ConfigVersion) int { return v.Version })
		}
	},
	"a version may say which one it brings back, and may mean nothing": func(w *world) {
		c := w.config("edge")
		v := w.draft(c.ID, "edge 1")
		v.RestoredFrom, v.Semantic = 1, fleet.SemanticHash{}
		created, err := w.CreateConfigVersion(w.Context(), w.by(), v)
		w.must(err)
		v.Version = 2
		if !reflect.DeepEqual(created, v) {
			w.Errorf("got %+v, want %+v", created, v)
		}
		w.wantVersion(v)
		w.wantAudit(string(c.ID)+"/2", "config_version.restore")
	},
	"the newest and the newest published version are known": func(w *world) {
		c := w.config("edge")
		w.next(c.ID, "two")
		w.next(c.ID, "three")
		w.publish(c.ID, 1)
		w.publish(c.ID, 2)
		got, err := w.Config(w.Context(), w.tenant, "edge")
		w.must(err)
		if got.Latest != 3 || got.LatestPublished != 2 {
			w.Errorf("got %+v", got)
		}
		w.must(w.archive(c.ID, 2))
		got, err = w.Config(w.Context(), w.tenant, "edge")
		w.must(err)
		if got.LatestPublished != 1 {
			w.Errorf("after archiving: %+v", got)
		}
	},
	"versions are numbered without gaps": func(w *world) {
		c := w.config("edge")
		draft := w.draft(c.ID, "body")
		versions := atOnce(w, 6, func(int) (fleet.ConfigVersion, error) { return w.CreateConfigVersion(w.Context(), w.by(), draft) })
		if len(versions) != 6 {
			w.Fatalf("got %d", len(versions))
		}
		list := pages(w, func(page fleet.Page) ([]fleet.ConfigVersion, string, error) {
			return w.ConfigVersions(w.Context(), w.tenant, c.ID, fleet.VersionFilter{}, page)
		})
		wantIDs(w, list, []int{7, 6, 5, 4, 3, 2, 1}, func(v fleet.ConfigVersion) int { return v.Version })
		draft.Version = 7
		w.wantVersion(draft)
	},
	"a version needs its configuration and its body": func(w *world) {
		w.in("theirs").body("theirs")
		c := w.config("edge")
		foreign := w.draft(c.ID, "x")
		foreign.Hash = fleet.HashOf([]byte("theirs"))
		for _, v := range []fleet.ConfigVersion{foreign, w.draft(newID[fleet.ConfigID](), "x"), w.draft(w.in("theirs").config("edge").ID, "x")} {
			_, err := w.CreateConfigVersion(w.Context(), w.by(), v)
			w.want(err, store.ErrNotFound)
		}
		_, err := w.ConfigVersion(w.Context(), w.tenant, c.ID, 2)
		w.want(err, store.ErrNotFound)
	},
	"updating replaces the body of the draft's revision and raises it": func(w *world) {
		c := w.config("edge")
		w.pass(time.Minute)
		v := w.draft(c.ID, "changed")
		v.Version, v.CreatedAt = 1, c.CreatedAt
		updated, err := w.UpdateConfigVersion(w.Context(), w.by(), v)
		w.must(err)
		v.Revision = 2
		if !reflect.DeepEqual(updated, v) {
			w.Errorf("got %+v, want %+v", updated, v)
		}
		w.wantVersion(v)
		w.wantAudit(string(c.ID)+"/1", "config_version.update")

		v.Revision = 1
		_, err = w.UpdateConfigVersion(w.Context(), w.by(), v)
		w.want(err, store.ErrConflict)
		v.Version = 2
		_, err = w.UpdateConfigVersion(w.Context(), w.by(), v)
		w.want(err, store.ErrNotFound)
		w.publish(c.ID, 1)
		v.Version, v.Revision = 1, 2
		_, err = w.UpdateConfigVersion(w.Context(), w.by(), v)
		w.want(err, store.ErrState)
	},
	"of many that update one revision, one succeeds": func(w *world) {
		c := w.config("edge")
		v := w.draft(c.ID, "changed")
		v.Version = 1
		won, lost := race(6, func(int) (fleet.ConfigVersion, error) { return w.UpdateConfigVersion(w.Context(), w.by(), v) })
		if len(won) != 1 {
			w.Errorf("%d succeeded", len(won))
		}
		for _, err := range lost {
			w.want(err, store.ErrConflict)
		}
	},
	"publishing names the revision that was read, or any": func(w *world) {
		c := w.config("edge")
		_, err := w.PublishConfigVersion(w.Context(), w.by(), fleet.Publication{Config: c.ID, Version: 1, Revision: 2})
		w.want(err, store.ErrConflict)
		w.pass(time.Minute)
		found := fleet.Publication{
			Config: c.ID, Version: 1, Revision: 1, Semantic: fleet.SemanticHash(fleet.HashOf([]byte("meaning"))), Waived: []string{"a-rule", "b-rule"},
		}
		v, err := w.PublishConfigVersion(w.Context(), w.by(), found)
		w.must(err)
		if v.Semantic != found.Semantic || !slices.Equal(v.Waived, found.Waived) {
			w.Errorf("of what was found there is %+v", v)
		}
		if v.State != fleet.VersionPublished || !v.PublishedAt.Equal(w.now) {
			w.Errorf("got %+v", v)
		}
		w.wantVersion(v)
		w.wantAudit(string(c.ID)+"/1", "config_version.publish")
		told := w.follow("", 1)
		if told[0].Kind != fleet.EventConfigPublished || told[0].Attributes["config"] != string(c.ID) || told[0].Attributes["version"] != "1" {
			w.Errorf("got %+v", told)
		}
	},
	"a version's life follows the table of its moves": func(w *world) {
		c := w.config("edge")
		moves := map[fleet.VersionMove]func(version int) error{
			fleet.Publish: func(version int) error {
				_, err := w.PublishConfigVersion(w.Context(), w.by(), fleet.Publication{Config: c.ID, Version: version})
				return err
			},
			fleet.Archive: func(version int) error { return w.archive(c.ID, version) },
			fleet.Unarchive: func(version int) error {
				_, err := w.UnarchiveConfigVersion(w.Context(), w.by(), c.ID, version)
				return err
			},
		}
		actions := map[fleet.VersionMove]string{
			fleet.Publish: "config_version.publish", fleet.Archive: "config_version.archive", fleet.Unarchive: "config_version.unarchive",
		}
		state := fleet.VersionDraft
		for _, step := range []fleet.VersionMove{fleet.Publish, fleet.Archive, fleet.Unarchive, fleet.Archive} {
			for move, make := range moves {
				w.want(make(2), store.ErrNotFound)
				if move.From != state {
					w.want(make(1), store.ErrState)
				}
			}
			w.must(moves[step](1))
			w.wantAudit(string(c.ID)+"/1", actions[step])
			state = step.To
			v, err := w.ConfigVersion(w.Context(), w.tenant, c.ID, 1)
			w.must(err)
			if v.State != state || !v.PublishedAt.Equal(w.now) {
				w.Errorf("after %v: %+v", step, v)
			}
		}
	},
	"an assigned version is not archived": func(w *world) {
		v := w.version("receivers: {}")
		target := fleet.Target{Agent: w.member("")}
		w.assign(target, v)
		w.want(w.archive(v.Config, 1), store.ErrState)
		w.must(w.Unassign(w.Context(), w.by(), target))
		w.must(w.archive(v.Config, 1))
	},
}
